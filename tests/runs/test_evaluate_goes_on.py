"""`evaluate run` that was killed once an evaluation of it had ended, with more to do: it goes on with that one, and makes no second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from fashion_ml.runs import evaluate
from tests.runs.command import Finished

SHORT = {"max_references": 2, "images_per_reference": 1, "num_inference_steps": 1, "resamples": 10, "prompts": "none"}


class Killed(BaseException):
    """As a process ends that is killed."""


def test_killed_before_the_trainings_report_is_complete_it_goes_on_with_its_evaluation(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(finished.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", finished.uri)
    run_id, client = str(finished.facts["run_id"]), MlflowClient(finished.uri)
    there = client.get_run(run_id).info.experiment_id

    def evaluations() -> list[str]:
        found = client.search_runs([there], f"tags.`mlflow.parentRunId` = '{run_id}' and tags.kind = 'evaluation'")
        return sorted(f"{one.info.run_id} {one.info.status}" for one in found)

    def killed(*given: Any) -> None:
        raise Killed

    before = evaluations()
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "complete_training_report", killed)
        with pytest.raises(Killed):
            evaluate.run_evaluation(run_id, SHORT, tmp_path / "again")
    (ended,) = set(evaluations()) - set(before)
    assert ended.endswith("FINISHED")
    evaluate.run_evaluation(run_id, SHORT, tmp_path / "again")
    assert set(evaluations()) - set(before) == {ended}
    evaluate.run_evaluation(run_id, SHORT, tmp_path / "again")  # all had ended: that is another evaluation
    assert len(evaluations()) == len(before) + 2
