"""A training's own page and grid: what it drew from the first step to the last, of both trainers, and what is not known is said to be so."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from fashion_ml.config import LoraExperiment, StarganExperiment
from fashion_ml.reports.run_page import with_newer
from fashion_ml.runs.lora_samples import sample_sheet
from fashion_ml.runs.newer_evaluation import tell_on_page
from fashion_ml.runs.run_report import write_run_report

LORA = LoraExperiment.model_validate({"data": {"train_data_dir": "embedded"}})
TRAINED = {
    "steps": 40,
    "final_total_loss": 0.5,
    "recent_total_loss": {"mean": 0.0731, "steps": 20},
    "best_step": None,
    "training_seconds": 12.5,
}


def picture(path: Path, colour: str = "teal", size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def run() -> Any:
    """Keeps what is logged to it."""
    logged: list[str] = []
    return SimpleNamespace(run_id="0123abcd", logged=logged, log_file=lambda path: logged.append(path.name))


def test_a_lora_shows_its_samples_its_curves_and_what_the_evaluation_found(tmp_path: Path, run: Any):
    for step in (0, 20, 40):
        for prompt in range(2):
            picture(tmp_path / "samples" / f"step_{step:06d}_prompt{prompt}.png")
    (tmp_path / "samples" / "prompts.json").write_text('["a red dress", "帽子"]', encoding="utf-8")
    picture(tmp_path / "training_logs" / "lora_detailed_training_curves_20260101_000000.png")
    picture(tmp_path / "evaluation" / "grid.png")
    page = write_run_report(LORA, "紅色 <r8>", "LoRA of x", tmp_path, run, TRAINED, "Found this.\nAnd <that>.").read_text(
        encoding="utf-8"
    )
    head = page[: page.index("<h2>")]
    assert "<h1>紅色 &lt;r8&gt;</h1>" in head
    assert "<p>Found this.</p><p>And &lt;that&gt;.</p>" in head
    for told in (
        "run <b>0123abcd</b>",
        "steps <b>40</b>",
        "total_loss, mean of the last 20 steps <b>0.0731</b>",
        "seconds <b>12.5</b>",
    ):
        assert told in head
    assert "best step" not in head
    assert "0.5" not in head  # of one batch
    assert [line[4:-5] for line in page.splitlines() if line.startswith("<h2>")] == [
        *("What it drew on the way", "Curves", "Evaluation", "More")
    ]
    assert 'href="evaluation/report.html"' in page
    assert run.logged == ["report.html", "grid.png"]
    assert Image.open(tmp_path / "grid.png").width > 3 * 160


def test_a_lora_without_samples_has_the_grid_of_its_evaluation(tmp_path: Path, run: Any):
    picture(tmp_path / "evaluation" / "grid.png", "red", (30, 20))
    write_run_report(LORA, "紅色 <r8>", "LoRA of x", tmp_path, run, TRAINED, "Found this.")
    assert Image.open(tmp_path / "grid.png").size == (30, 20)


def test_a_training_that_was_not_evaluated_says_so_and_how_to(tmp_path: Path, run: Any):
    page = write_run_report(LORA, "紅色 <r8>", "LoRA of x", tmp_path, run, TRAINED, "").read_text(encoding="utf-8")
    assert "No image was measured, so nothing is known of how good it is: fashion-ml evaluate run 0123abcd" in page
    assert run.logged == ["report.html"]
    assert not (tmp_path / "grid.png").exists()


def test_a_stargan_shows_its_last_grids(tmp_path: Path):
    for epoch, width in ((0, 10), (10, 20), (12, 30)):
        for who in ("reference", "latent"):
            picture(tmp_path / "grids" / f"{who}_{epoch:06d}.png", size=(width, 10))
    page = write_run_report(StarganExperiment(), "s", "StarGAN", tmp_path, None, {"steps": 3}, "").read_text(encoding="utf-8")
    assert Image.open(tmp_path / "grid.png").width == 30
    assert "<h2>What it drew on the way</h2>" in page
    assert "<h2>The same by latent</h2>" in page


def test_the_sheet_has_at_most_six_steps_the_first_and_the_last_among_them_by_older_names_too(tmp_path: Path):
    assert sample_sheet(tmp_path) is None
    for step in range(0, 2001, 100):
        picture(tmp_path / "samples" / f"sample_0_{step:08d}.png")
    sheet = sample_sheet(tmp_path)
    assert sheet is not None
    assert sheet.width == 6 * 164 + 28


def test_a_page_says_what_a_later_evaluation_found_and_a_third_one_takes_its_place(tmp_path: Path, run: Any):
    page = write_run_report(LORA, "r8", "LoRA of x", tmp_path, run, TRAINED, "Found this.").read_text(encoding="utf-8")
    newer = with_newer(page, ["Now <that>.", "", "And more."], "4567cdef")
    assert "Found this." not in newer
    assert '<div class="sentence"><p>Now &lt;that&gt;.</p><p>And more.</p></div>' in newer
    assert newer.count("(run 4567cdef)") == 1
    third = with_newer(newer, ["Third."], "89ab")
    assert third.count("Evaluated again") == third.count('class="sentence"') == 1
    assert third.replace("\n", "").endswith(page.replace("\n", "")[-200:])


def test_a_later_evaluation_is_told_on_the_page_in_the_store_and_without_one_nothing_is_made(tmp_path: Path):
    kept = tmp_path / "report.html"
    kept.write_text('<div class="sentence"><p>Before.</p></div>', encoding="utf-8")
    logged: list[str] = []

    def bring(run_id: str, name: str, folder: str) -> str:
        return shutil.copy(tmp_path / name, folder)

    run = SimpleNamespace(info=SimpleNamespace(status="FINISHED", artifact_uri=""))
    client = SimpleNamespace(download_artifacts=bring, get_run=lambda run_id: run)
    log_file = lambda path: logged.append(path.read_text(encoding="utf-8"))  # noqa: E731
    training: Any = SimpleNamespace(client=client, run_id="a", spooled=False, log_file=log_file)
    tell_on_page(training, "b", "After.")
    assert ["After." in one and "Before." not in one for one in logged] == [True]
    kept.unlink()
    tell_on_page(training, "b", "After.")
    assert len(logged) == 1
