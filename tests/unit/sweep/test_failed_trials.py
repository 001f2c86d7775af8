"""Trials that failed, and those that are cut off again and again: what is kept of them, what is tried again, and what a worker says."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from fashion_ml.sweep import trial as trial_module
from fashion_ml.sweep.local_workers import LocalWorkers
from fashion_ml.sweep.silence import Silence
from fashion_ml.sweep.study import by_slot, queue_again, retry_failed, trials_of
from fashion_ml.sweep.suite_study import trainings_of
from fashion_ml.sweep.trial import PROCESS_SECONDS, TrialError, _watch, run_training
from tests.unit.sweep.test_suite import a_study, worked

CUTS = 21


def cut_off(study: optuna.Study, progress: Any = lambda number: "seed 0, 0 steps") -> None:
    """The first slot is taken up and cut off, as often as it is allowed."""
    number = 0
    while any(trial.state.name == "WAITING" for trial in by_slot(study)[0]) and number < 3 * CUTS:
        trial = study.ask()
        trial.set_user_attr("progress", progress(number))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        queue_again(study, Silence(60))
        number += 1


def test_what_failed_is_trained_again_when_that_is_asked_for_and_its_old_trial_keeps_the_reason(tmp_path: Path):
    _, study = a_study(tmp_path)
    worked(study, failing="rank 8")
    assert [one.error for one in trainings_of(study) if one.recipe == "rank 8"] == ["it diverges"] * 3
    assert worked(study) == []
    assert retry_failed(study) == 3
    assert retry_failed(study) == 0
    assert worked(study) == [("rank 8", 0), ("rank 8", 1), ("rank 8", 2)]
    assert {(one.state, one.error) for one in trainings_of(study)} == {("complete", "")}
    assert [[trial.user_attrs.get("error") for trial in trials] for trials in by_slot(study).values()][1] == [
        "it diverges",
        None,
    ]


def test_a_trial_that_gets_no_further_fails_with_that_as_its_reason_and_may_be_tried_again(tmp_path: Path):
    _, study = a_study(tmp_path)
    first = study.ask()  # the others wait meanwhile
    study.tell(first, state=optuna.trial.TrialState.FAIL)
    for trial in study.get_trials(states=(optuna.trial.TrialState.WAITING,)):
        study._storage.set_trial_state_values(trial._trial_id, state=optuna.trial.TrialState.COMPLETE, values=[0.5])
    queue_again(study, Silence(60))
    cut_off(study)
    (error,) = [one.error for one in trainings_of(study) if one.error]
    assert error.startswith("cut off 21 times without getting any further")
    count = len(study.trials)
    queue_again(study, Silence(60))
    assert len(study.trials) == count
    assert retry_failed(study) == 1
    cut_off(study, lambda number: f"seed 0, {number} steps")
    assert len(by_slot(study)[0]) > 2 * CUTS  # it got further each time
    assert trials_of(study)[0].state.name == "WAITING"


class Training:
    """A training that runs until it is stopped."""

    def __init__(self, folder: Path):
        self.watched = folder / "watched.jsonl"

    def poll(self) -> int | None:
        return None


def test_the_time_of_a_training_that_was_cut_off_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _, study = a_study(tmp_path)
    trial, noted = study.ask(), list[float]()

    def interrupted(seconds: float) -> None:
        noted.append(study.trials[0].user_attrs.get(PROCESS_SECONDS, 0.0))
        if len(noted) == 5:
            raise KeyboardInterrupt

    clock = SimpleNamespace(monotonic=iter(range(0, 10_000, 10)).__next__, sleep=interrupted)
    monkeypatch.setattr(trial_module, "time", clock)
    monkeypatch.setattr(trial_module, "_STILL_OURS_SECONDS", 1e9)
    with pytest.raises(KeyboardInterrupt):
        _watch(Training(tmp_path), trial, None)  # type: ignore[arg-type]
    assert 0 < noted[-1] < study.trials[0].user_attrs[PROCESS_SECONDS]  # as it goes too: a worker that is killed notes no end


@pytest.mark.parametrize("steps", [[0] * 9, [0, 1, 2, 3, 4, 5, 6, 7, 8]], ids=["nothing gained", "further each time"])
def test_a_training_is_given_up_after_six_kills_at_one_step_alone(
    steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    script, came_to = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", iter(steps)
    monkeypatch.setattr(trial_module, "_progress", lambda target: next(came_to))
    process, begun = trial_module.TrainingProcess, []

    def started(command: Any, folder: Path, run_id: str, experiment_id: str) -> Any:
        begun.append(command)
        if len(begun) == 8:
            (folder / "facts.json").write_text('{"ended": true}', encoding="utf-8")
        return process([sys.executable, "-c", script], folder, run_id, experiment_id)

    monkeypatch.setattr(trial_module, "TrainingProcess", started)
    base = tmp_path / "base.yaml"

    def trained() -> dict[str, Any]:
        return run_training("stargan", base, {}, tmp_path, "run", "0", trial_module.wait)

    if steps[-1]:
        assert trained() == {"ended": True}
        assert len(begun) == 8
    else:
        with pytest.raises(TrialError, match="the training was killed 6 times without getting any further"):
            trained()


def test_a_worker_says_which_training_failed_and_why(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    _, study = a_study(tmp_path)
    with caplog.at_level("INFO", logger="fashion_ml"):
        worked(study, failing="rank 8")
    said = [record.getMessage() for record in caplog.records]
    assert "rank 8, seed 1: failed, it diverges" in said
    assert "rank 4, seed 1: complete 0.5100" in said


def test_the_reason_of_a_worker_that_died_is_its_own_and_not_one_of_an_earlier_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "worker_0.log").write_text("error: the disk of yesterday is full\n", encoding="utf-8")
    monkeypatch.setattr(
        "fashion_ml.sweep.local_workers.worker_command", lambda *_: [sys.executable, "-c", "import sys; sys.exit(7)"]
    )
    team = LocalWorkers("suite", tmp_path / "x.yaml", "sqlite://", tmp_path, 1, None)
    team.start(0)
    while (code := team.poll(0)) is None:
        time.sleep(0.05)
    assert team.why(0, code) == f"worker 0 ended with 7; see {tmp_path / 'worker_0.log'}"
