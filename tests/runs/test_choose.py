"""`evaluate choose`: one pass over files and strengths, as a run below the training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.runs.chinese import english
from tests.runs.command import Command, Finished, fashion_ml

GIVEN = ("--strengths", "0.5,1", "--max-references", "12", "--num-inference-steps", "1", "--images-per-reference", "1")


@pytest.fixture(scope="module")
def chosen(finished: Finished) -> dict[str, Any]:
    run = finished.facts["run_id"]
    result = fashion_ml("evaluate", "choose", run, *GIVEN, "--json", "choice.json", cwd=finished.folder, uri=finished.uri)
    assert result.returncode == 0, result.stderr
    assert "is chosen: " in result.stdout
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("Its whole evaluation: ")]
    assert f"fashion-ml evaluate run {run} --checkpoints " in line
    assert "--set evaluation.max_references=12" in line  # measured as it was chosen
    facts: dict[str, Any] = json.loads((finished.folder / "choice.json").read_text(encoding="utf-8"))
    return facts


def test_the_winner_is_tagged_and_its_file_copied_and_the_run_lies_below_the_training(
    finished: Finished, chosen: dict[str, Any]
):
    client = MlflowClient(finished.uri)
    training, run = client.get_run(finished.facts["run_id"]), client.get_run(chosen["run_id"])
    winner = chosen["winner"]
    tags = training.data.tags
    assert (tags["best_measured"], tags["best_measured_strength"]) == (winner["file"], f"{winner['strength']:g}")
    assert (run.data.tags["kind"], run.data.tags["mlflow.parentRunId"]) == ("choice", finished.facts["run_id"])
    assert {"choice.json", "choice_table.json", "fingerprint.json"} <= {
        item.path for item in client.list_artifacts(run.info.run_id)
    }
    assert "lora/best_measured.safetensors" in {item.path for item in client.list_artifacts(finished.facts["run_id"], "lora")}
    source = client.download_artifacts(finished.facts["run_id"], f"lora/{winner['file']}")
    assert Path(chosen["path"]).read_bytes() == Path(source).read_bytes()
    assert run.data.params["eval_settings.seed"] == "0"  # by which register knows what has been searched by
    assert "unread" not in chosen
    assert chosen["measured"] == chosen["whole"] == 2 * 12  # two settings are finalists at once


def test_started_again_it_finds_its_images_and_an_evaluation_finds_them_too(finished: Finished, chosen: dict[str, Any]):
    run = finished.facts["run_id"]
    again = fashion_ml(
        "--lang", "zh-TW", "evaluate", "choose", run, *GIVEN, "--json", "again.json", cwd=finished.folder, uri=finished.uri
    )
    assert "產生了 0 張圖片" in again.stderr
    assert english(again.stdout + again.stderr) == []
    second = json.loads((finished.folder / "again.json").read_text(encoding="utf-8"))
    assert {key: second[key] for key in ("winner", "finals", "lead")} == {
        key: chosen[key] for key in ("winner", "finals", "lead")
    }
    place = finished.folder / "outputs" / "evaluations" / run
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*.png")}
    same = ("--batch-size", str(chosen["batch_size"]), "--strengths", "0.5", *GIVEN[2:])
    evaluated = fashion_ml("evaluate", "run", run, *same, "--json", "whole.json", cwd=finished.folder, uri=finished.uri)
    assert evaluated.returncode == 0, evaluated.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    loss = json.loads((finished.folder / "whole.json").read_text(encoding="utf-8"))["metrics"]["weighted_total_loss"]["lora"][
        "mean"
    ]
    assert chosen["finals"]["lora.safetensors at 1"] == pytest.approx(loss, abs=1e-9)


def test_what_is_no_choice_is_one_line(refused: Command, finished: Finished, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", finished.uri)
    run = finished.facts["run_id"]
    (line,) = refused("evaluate", "choose", run, "--strengths", "1")
    assert line.startswith("error: --checkpoints: one file at one strength is no choice")
    (line,) = refused("evaluate", "choose", run, "--strengths", "0,1")
    assert line.startswith("error: --strengths: '0,1' is not accepted; give numbers above 0 and up to 4")
