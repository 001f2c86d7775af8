"""What a trial is worth: means over its seeds, and constraints that are broken on the right side."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import FrozenTrial

from fashion_ml.sweep.ranked import best_trials
from fashion_ml.sweep.study import ask_for
from fashion_ml.sweep.trial import TrialError, TrialRunner, run_training, values_of
from tests.unit.sweep.test_study import a_study


def ended(folder: Path, losses: dict[int, float], **changes: Any) -> FrozenTrial:
    """A trial whose training with each seed measures a loss, and has ten times the seed parameters."""
    spec, study = a_study(folder, trials=1, seeds=list(losses), confirm={"best": 0}, **changes)
    ask_for(study, spec)
    runner = TrialRunner(spec, folder / "base.yaml", folder / "trials", SimpleNamespace(run_id="study"))  # type: ignore[arg-type]

    def train(trial: Any, params: Any, seed: int, *, prune: bool) -> Any:
        assert prune == (seed == next(iter(losses)))  # a pruner looks at the first seed alone
        evaluation = {"run_id": f"e{seed}", "metrics": {"weighted_total_loss": {"mean": losses[seed]}}}
        return {"training_seconds": 1.0, "trained_parameters": 10 * seed, "evaluation": evaluation}

    runner.train = train  # type: ignore[method-assign]
    study.optimize(runner, n_trials=1, catch=(TrialError,))
    (trial,) = study.trials
    return trial


def test_the_value_of_a_trial_is_the_mean_over_all_its_seeds(tmp_path: Path):
    trial = ended(tmp_path, {1: 0.2, 2: 0.4, 3: 0.9})
    assert trial.value == pytest.approx(0.5)
    assert trial.user_attrs["evaluations"] == ["e1", "e2", "e3"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("parameters <= 15", 5.0), ("parameters <= 25", -5.0), ("parameters >= 25", 5.0), ("parameters >= 15", -5.0)],
)
def test_a_constraint_is_broken_above_0_and_bounds_the_mean_over_the_seeds(text: str, value: float, tmp_path: Path):
    """10 and 30 parameters: 20."""
    trial = ended(tmp_path, {1: 0.2, 3: 0.4}, constraints=[text])
    assert list(trial.constraints.values()) == [value]


def test_a_trial_that_breaks_a_constraint_is_never_the_best(tmp_path: Path):
    spec, study = a_study(tmp_path, trials=3, constraints=["parameters <= 25"], confirm={"best": 0})
    ask_for(study, spec)
    runner = TrialRunner(spec, tmp_path / "base.yaml", tmp_path / "trials", SimpleNamespace(run_id="study"))  # type: ignore[arg-type]

    def train(trial: Any, params: Any, seed: int, *, prune: bool) -> Any:
        slot = trial.user_attrs["slot"]
        evaluation = {"run_id": "e", "metrics": {"weighted_total_loss": {"mean": [0.3, 0.1, 0.2][slot]}}}
        return {"training_seconds": 1.0, "trained_parameters": [10, 30, 20][slot], "evaluation": evaluation}

    runner.train = train  # type: ignore[method-assign]
    study.optimize(runner, n_trials=3)
    assert [trial.user_attrs["slot"] for trial in best_trials(study)] == [2]


def test_a_metric_that_was_not_measured_fails_the_trial_and_says_what_there_is(tmp_path: Path):
    trial = ended(tmp_path, {1: 0.2}, constraints=["ciede2000 <= 1"])
    assert trial.state.name == "FAIL"
    there = "parameters, training_seconds, weighted_total_loss"
    assert trial.user_attrs["error"] == f"ciede2000 <= 1: 'ciede2000' was not measured; there are {there}"


def test_the_numbers_of_a_training_are_the_loras_and_the_sum_of_a_stargans_networks():
    lora = {
        "training_seconds": 3,
        "val_loss": None,
        "trained_parameters": 7,
        "evaluation": {
            "metrics": {"ssim": {"lora": {"mean": 0.4}, "base": {"mean": 0.3}}},
            "kid": {"kid": {"mean": 0.1}, "base_kid": {"mean": 0.2}},
        },
    }
    assert values_of(lora) == {"training_seconds": 3, "parameters": 7, "ssim": 0.4}
    stargan = {"training_seconds": 3, "parameters": {"a": 2, "b": 5}, "evaluation": None}
    assert values_of(stargan) == {"training_seconds": 3, "parameters": 7}


def test_a_training_that_is_killed_goes_on_and_one_that_fails_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    commands: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], folder: Path, run_id: str, experiment_id: str):
            commands.append(command)
            (folder / "run").mkdir(exist_ok=True)
            (folder / "run" / "run.json").write_text('{"finished": false}', encoding="utf-8")
            (folder / "log.txt").write_text("error: it diverges\n", encoding="utf-8")

        def stop(self) -> None:
            pass

    monkeypatch.setattr("fashion_ml.sweep.trial.TrainingProcess", Process)
    codes = [-9, 143, 3]
    with pytest.raises(TrialError, match="it diverges"):
        run_training("lora", tmp_path / "base.yaml", {"a": "1"}, tmp_path, "r", "0", lambda process: codes.pop(0))
    assert ["--resume" in command for command in commands] == [False, True, True]
    assert "data.cache_dir=" + str(tmp_path / "cache") in commands[0]
    assert "a=1" in commands[0]


def test_a_training_that_is_killed_between_its_end_and_the_report_of_it_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fashion_ml.sweep.trial.finish_rest", lambda target: None)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"finished": true}', encoding="utf-8")
    (tmp_path / "run" / "facts.json").write_text('{"training_seconds": 3}\n', encoding="utf-8")
    found = run_training("lora", tmp_path / "base.yaml", {}, tmp_path, "r", "0", lambda process: 1)
    assert found == {"training_seconds": 3}
    assert (tmp_path / "facts.json").read_text(encoding="utf-8") == '{"training_seconds": 3}\n'
