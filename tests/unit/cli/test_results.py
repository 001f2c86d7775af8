"""Results end with where the report is, the best step and the next command; what was found are the last lines."""

from __future__ import annotations

from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fashion_ml.cli.results import report_lora, report_stargan_training, say_end, short_id
from fashion_ml.training.training_log import LossSeries

RUN = "3f2a91bc" + "0" * 24


def outcome(**given: Any) -> Any:
    series = LossSeries(array("q", [400, 500]), array("d", [0.2, 0.03]))
    trained = SimpleNamespace(
        path=Path.cwd() / "outputs" / "lora.safetensors",
        total_loss=series,
        best_step=given.pop("best_step", None),
        seconds=10620.0,
    )
    facts = {"run_id": RUN, "name": "dress r8", "folder": Path.cwd() / "outputs", "trained": trained, "evaluation": None}
    return SimpleNamespace(**facts | {"offline": False} | given)


def test_a_lora_that_was_not_measured_ends_with_the_command_that_measures_it(capsys: pytest.CaptureFixture[str]):
    report_lora(outcome(best_step=300))
    assert capsys.readouterr().out.splitlines() == [
        "Trained   500 steps in 2 h 57 min: total_loss 0.1150 (mean of the last 2)",
        f"LoRA      {Path('outputs/lora.safetensors')}",
        f"Run       dress r8 ({RUN})",
        f"Best step 300 of 500 by val_loss: {Path('outputs/best.safetensors')}",
        "Not evaluated, so there are no image metrics. Next: fashion-ml evaluate run 3f2a91bc",
    ]


def test_an_offline_run_is_sent_next(capsys: pytest.CaptureFixture[str]):
    report_lora(outcome(offline=True, run_id="pending-" + "0" * 32))
    said = capsys.readouterr().out
    assert f"Next      fashion-ml sync {Path.cwd() / 'outputs'}" in said
    assert f"fashion-ml evaluate run {Path.cwd() / 'outputs'}" in said
    assert "Best step" not in said


def test_a_stargan_says_as_much(capsys: pytest.CaptureFixture[str]):
    trained = SimpleNamespace(
        path=Path("g.safetensors"), epochs=[{"d_loss": 2.0, "g_loss": 1.5}], steps=1886, seconds=300.0, best_step=None
    )
    report_stargan_training(outcome(trained=trained))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Trained   1886 steps in 5 min: d_loss 2.000, g_loss 1.500 in the last epoch"
    assert lines[-1].endswith("Next: fashion-ml evaluate run 3f2a91bc")


def test_the_last_lines_are_what_was_found(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "40")
    sentence = "It lowers weighted_total_loss by 0.041 [0.028, 0.055].\nIt obeys.\nOne training says nothing."
    say_end(SimpleNamespace(folder=Path("/runs/a"), run_id=RUN, sentence=sentence), ["grid.png"])  # type: ignore[arg-type]
    assert capsys.readouterr().out.splitlines() == [
        "",
        "Report    /runs/a/report.html",
        "Grid      /runs/a/grid.png",
        "Next      fashion-ml show 3f2a91bc",
        "",
        "It lowers weighted_total_loss by 0.041",
        "[0.028, 0.055].",
        "It obeys.",
        "One training says nothing.",
    ]


def test_an_id_that_no_store_has_given_is_said_whole():
    assert (short_id(RUN), short_id("pending-12")) == ("3f2a91bc", "pending-12")
