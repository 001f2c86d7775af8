"""The MLflow UI in a headless Chromium, on real runs: what is seen without a click. Skipped where there is no Chromium, and in CI."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.recipes.command import FEW, fashion_ml, free_port, wait_until_healthy

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.skipif(bool(os.environ.get("CI")), reason="browsers are driven by hand, not in CI"),
]
OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--virtual-time-budget=30000", "--window-size=1800,1000"),
]


@dataclass(frozen=True)
class Site:
    url: str
    links: str
    """What `fashion-ml ui` printed."""
    runs: list[str]
    experiment: str
    gan: str

    def page(self, address: str, picture: str = "") -> str:
        """The text of a page once it is drawn; FASHION_ML_SCREENSHOTS names a folder that keeps what it looks like."""
        with tempfile.TemporaryDirectory() as profile:
            command = [str(CHROMIUM), *OPTIONS, f"--user-data-dir={profile}"]
            kept = os.environ.get("FASHION_ML_SCREENSHOTS")
            if kept and picture:
                subprocess.run(
                    [*command, f"--screenshot={Path(kept) / picture}", address], check=True, capture_output=True, timeout=120
                )
            drawn = subprocess.run([*command, "--dump-dom", address], check=True, capture_output=True, text=True, timeout=120)
        return re.sub(r"\s+", " ", re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", drawn.stdout, flags=re.S))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Site]:
    """Three LoRA trainings with evaluations, a StarGAN training, and `fashion-ml ui` beside them."""
    folder = tmp_path_factory.mktemp("ui")
    shutil.copy(empty_store, folder / "mlflow.db")
    uri, runs, experiment = f"sqlite:///{folder / 'mlflow.db'}", [], ""
    for rank, rate in (("2", "1e-3"), ("4", "2e-3"), ("8", "4e-3")):
        lora = ["train", "lora", "--rank", rank, "--lr", rate, "--steps", "20", *FEW, "--output-dir", f"rank{rank}"]
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
    wait_until_healthy(port, folder / "ui.log")
    links = (folder / "ui.log").read_text(encoding="utf-8")
    gan_run = json.loads((folder / "gan.json").read_text(encoding="utf-8"))["run_id"]
    yield Site(f"http://127.0.0.1:{port}", links, runs, experiment, gan_run)
    process.terminate()
    process.wait()


def test_the_table_shows_rank_rate_loss_and_score_without_a_click(site: Site):
    link = next(line.split(": ", 1)[1] for line in site.links.splitlines() if line.strip().startswith("LoRA trainings: "))
    text = site.page(link, "ui_loras.png")
    for column in ("network.rank", "optimizer.learning_rate", "total_loss", "eval/weighted_total_loss"):
        assert column in text, text[:3000]
    assert "0.001" in text
    assert "0.004" in text


def test_a_ready_view_draws_rank_rate_and_score_as_parallel_coordinates(site: Site):
    link = next(line.split(": ", 1)[1] for line in site.links.splitlines() if "LoRA trainings compared: " in line)
    text = site.page(link, "ui_parallel.png")
    for name in ("network.rank", "optimizer.learning_rate", "eval/weighted_total_loss"):
        assert name in text


def test_comparing_three_loras_draws_parallel_coordinates(site: Site):
    runs, experiments = quote(json.dumps(site.runs)), quote(json.dumps([site.experiment]))
    text = site.page(f"{site.url}/#/compare-runs?runs={runs}&experiments={experiments}", "ui_compare.png")
    assert "Parallel Coordinates Plot" in text
    for name in ("network.rank", "optimizer.learning_rate"):
        assert name in text


def test_the_charts_of_a_stargan_show_its_terms(site: Site):
    text = site.page(f"{site.url}/#/experiments/{site.experiment}/runs/{site.gan}/model-metrics", "ui_stargan.png")
    for name in ("cyc", "d_loss", "ds", "g_adv", "g_loss", "id"):  # the first screen; the others are drawn when scrolled to
        assert name in text, name
    assert int(re.search(r"Model metrics \((\d+)\)", text)[1]) >= 13  # type: ignore[index]
