"""The MLflow UI in a headless Chromium, on real runs: what is seen without a click. Skipped where there is no Chromium, and in CI."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.full.browser import Page, browser
from tests.runs.command import FEW, fashion_ml, free_port

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.skipif(bool(os.environ.get("CI")), reason="browsers are driven by hand, not in CI"),
]


@dataclass(frozen=True)
class Site:
    url: str
    links: str
    """What `fashion-ml ui` printed."""
    runs: list[str]
    experiment: str
    gan: str

    def view(self, title: str) -> str:
        """The link that was printed under a title."""
        return next(
            line.split(": ", 1)[1] for line in self.links.splitlines() if line.strip().startswith((f"{title}: ", f"{title}, "))
        )


@pytest.fixture
def page() -> Iterator[Page]:
    with browser(str(CHROMIUM)) as one:
        yield one


def keep(page: Page, picture: str) -> None:
    """FASHION_ML_SCREENSHOTS names a folder that keeps what a page looks like."""
    folder = os.environ.get("FASHION_ML_SCREENSHOTS")
    if folder:
        time.sleep(2)  # animations
        page.photograph(Path(folder) / picture)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Site]:
    """Three LoRA trainings with evaluations, a StarGAN training, and `fashion-ml ui` beside them."""
    folder = tmp_path_factory.mktemp("ui")
    shutil.copy(empty_store, folder / "mlflow.db")
    uri, runs, experiment = f"sqlite:///{folder / 'mlflow.db'}", [], ""
    for rank, rate in (("2", "1e-3"), ("4", "2e-3"), ("8", "4e-3")):
        lora = [
            "train",
            "lora",
            "--rank",
            rank,
            "--lr",
            rate,
            "--steps",
            "20",
            "--sample_every",
            "10",
            *FEW,
            "--output-dir",
            f"rank{rank}",
        ]
        result = fashion_ml(*lora, "--json", "facts.json", cwd=folder, uri=uri)
        assert result.returncode == 0, result.stderr
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        runs.append(facts["run_id"])
        experiment = facts["experiment_id"]
    gan = ["train", "stargan", "--base_dim", "8", "--epochs", "6", "--ds_decay_epochs", "4", "--no-evaluate"]
    result = fashion_ml(*gan, "--json", "gan.json", cwd=folder, uri=uri)
    assert result.returncode == 0, result.stderr
    port = free_port()
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONUNBUFFERED": "1"}
    with (folder / "ui.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "fashion_ml", "ui", "--port", str(port)], cwd=folder, env=environment, stdout=log, stderr=log
        )
    end = time.monotonic() + 120
    while "  evaluations, " not in (links := (folder / "ui.log").read_text(encoding="utf-8")):  # the last but one kind of view
        assert time.monotonic() < end, links
        time.sleep(0.3)
    gan_run = json.loads((folder / "gan.json").read_text(encoding="utf-8"))["run_id"]
    yield Site(f"http://127.0.0.1:{port}", links, runs, experiment, gan_run)
    process.terminate()
    process.wait()


def test_the_table_shows_rank_rate_loss_and_score_without_a_click(site: Site, page: Page):
    page.open(site.view("LoRA trainings"))
    page.wait_for("network.rank", "optimizer.learning_rate", "total_loss", "eval/weighted_total_loss", "0.001", "0.004")
    keep(page, "ui_loras.png")


def test_a_ready_view_draws_rank_rate_and_score_as_parallel_coordinates(site: Site, page: Page):
    page.open(site.view("LoRA trainings compared"))
    page.wait_for("network.rank", "optimizer.learning_rate", "eval/weighted_total_loss")
    keep(page, "ui_parallel.png")
    axes = page.run("[...document.querySelectorAll('svg .label')].map(e => e.textContent)")
    assert {"network.rank", "optimizer.learning_rate", "eval/weighted_total_loss"} <= set(axes)


def test_sample_images_are_large_at_once_and_no_params_stand_above_them(site: Site, page: Page):
    page.open(site.view("LoRA sample images"))
    text = page.wait_for("LoRA sample images (1)", "sample_0", "sample_3")
    keep(page, "ui_samples.png")
    widths = page.run("[...document.querySelectorAll('td img, [role=cell] img')].map(e => e.getBoundingClientRect().width)")
    assert max(widths) >= 120, widths
    assert "evaluation.num_inference_steps" not in text
    page.open(site.view("StarGAN grids"))
    page.wait_for("StarGAN grids (1)", "grid_reference", "grid_latent")
    keep(page, "ui_grids.png")


def test_comparing_three_loras_draws_parallel_coordinates(site: Site, page: Page):
    runs, experiments = quote(json.dumps(site.runs)), quote(json.dumps([site.experiment]))
    page.open(f"{site.url}/#/compare-runs?runs={runs}&experiments={experiments}")
    page.wait_for("Comparing 3 Runs", "Parallel Coordinates Plot", "network.rank", "optimizer.learning_rate")
    page.click("[class*=select-selector]", "total_loss")  # the metrics; MLflow begins with total_loss
    page.choose("eval/weighted_total_loss")
    drawn = "[...document.querySelectorAll('.parcoords .axis-title')].map(e => e.textContent)"
    wanted = {"network.rank", "optimizer.learning_rate", "eval/weighted_total_loss"}
    end = time.monotonic() + 20
    while not wanted <= set(axes := page.run(drawn)):
        assert time.monotonic() < end, axes
        time.sleep(0.3)
    page.click("h1, h2")  # closes the list
    keep(page, "ui_compare.png")


def test_the_charts_of_a_stargan_show_its_terms(site: Site, page: Page):
    page.open(f"{site.url}/#/experiments/{site.experiment}/runs/{site.gan}/model-metrics")
    page.wait_for("Model metrics(")
    page.click("input[placeholder*='earch metric']")
    page.insert("^(d_loss|g_|sty|ds|cyc|id|r1|lambda_ds)")
    page.wait_for("stargan embedded (d_loss)")
    keep(page, "ui_stargan.png")
    text = page.scroll_through()
    for name in ("d_loss", "g_loss", "g_adv", "sty", "ds", "cyc", "id", "r1", "lambda_ds"):
        assert f"stargan embedded ({name})" in text, name
