"""Sweep files: what is accepted, what is refused and why, and what a search space suggests."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from mlflow import MlflowClient

from fashion_ml.config import Dimension, load_sweep, read_constraint
from fashion_ml.errors import InputError
from fashion_ml.sweep import launch, local_workers
from fashion_ml.sweep import trial as trial_module
from fashion_ml.sweep.own_folder import own_folder
from fashion_ml.sweep.silence import Silence
from fashion_ml.sweep.space import grid, suggest
from fashion_ml.sweep.study import ask_for, by_slot, hidden, open_study, queue_again, set_run, trials_of
from fashion_ml.sweep.trial import TrialError, TrialRunner, _watch, run_training
from tests.runs.forked import fork_studies

pytestmark = pytest.mark.usefixtures("blank_figures")

PROJECT = Path(__file__).parents[3]
SPEC: dict[str, Any] = {
    "name": "test",
    "trainer": "lora",
    "experiment": str(PROJECT / "experiments" / "lora" / "embedded.yaml"),
    "search_space": {"network.rank": {"type": "categorical", "choices": [2, 4]}},
    "objectives": [{"metric": "weighted_total_loss"}],
    "trials": 3,
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({**SPEC, **changes}), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["lora_rank_lr.yaml", "stargan_w_ds.yaml"])
def test_the_sweeps_that_come_with_the_project_are_valid(name: str):
    spec, _ = load_sweep(PROJECT / "sweeps" / name, {})
    assert spec.trials == 12


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"search_space": {"network.rnk": {"type": "int", "low": 1, "high": 2}}},
            "search_space.network.rnk: network.rnk: unknown key",
        ),
        (
            {"search_space": {"network.rank": {"type": "int", "low": 0, "high": 8}}},
            "search_space.network.rank: network.rank: '0' is not",
        ),
        (
            {"search_space": {"network.rank": {"type": "int", "low": 8, "high": 2}}},
            "int takes low and high, with low below high",
        ),
        ({"search_space": {"network.rank": {"type": "int", "low": 1.5, "high": 2}}}, "int takes whole numbers"),
        ({"search_space": {"network.rank": {"type": "categorical", "low": 1}}}, "a categorical setting takes choices"),
        (
            {"search_space": {"loss.noise_offset": {"type": "float", "low": 0, "high": 1, "log": True}}},
            "log takes a low above 0",
        ),
        ({"search_space": {"output.output_name": {"type": "categorical", "choices": ["a"]}}}, "do not change what is trained"),
        ({"constraints": ["parameters < 5"]}, "'parameters < 5' is no constraint; write NAME <= NUMBER"),
        ({"objectives": [{"metric": "val_loss"}]}, "val_loss needs a LoRA and a data.validation_split above 0"),
        ({"settings": {"evaluation.enabled": False}}, "the experiment does not evaluate"),
        (
            {"sampler": {"name": "grid"}, "search_space": {"loss.noise_offset": {"type": "float", "low": 0, "high": 1}}},
            "grid takes",
        ),
        (
            {"objectives": [{"metric": "ssim"}, {"metric": "lpips"}], "pruner": {"name": "median"}, "confirm": {"best": 0}},
            "pruner.name: median needs one objective and there are 2",
        ),
        (
            {"objectives": [{"metric": "ssim"}], "pruner": {"name": "wilcoxon"}},
            "pruner.name: wilcoxon compares weighted_total_loss, not ssim",
        ),
        ({"confirm": {"seeds": [101, 102]}}, "confirm.seeds: .*fewer than 3, .*; give at least 3 different ones.*--quick"),
        (
            {"objectives": [{"metric": "ssim"}, {"metric": "ciede2000"}]},
            "confirm.best: 2 objectives have a Pareto front and no single best to confirm; set it to 0",
        ),
        ({"confirm": {"seeds": [101, 102, 102]}}, "confirm.seeds: .*fewer than 3"),
        ({"confirm": {"seeds": [0, 101, 102]}}, "confirm.seeds: 0 is one of the search's seeds; give others"),
        ({"confirm": {"image_seed": 0}}, "confirm.image_seed: 0 is the search's evaluation.seed; give another"),
        ({"experiment": "none.yaml"}, "config: .*none.yaml' does not exist"),
    ],
)
def test_one_line_says_what_is_wrong(changes: dict[str, Any], says: str, tmp_path: Path):
    with pytest.raises(InputError, match=says):
        load_sweep(written(tmp_path, **changes), {})


@pytest.mark.parametrize(("direction", "reported"), [("minimize", 0.5), ("maximize", -0.5)])
def test_a_pruner_is_told_val_loss_in_the_direction_of_the_study(direction: str, reported: float, tmp_path: Path):
    class Ended:
        watched = tmp_path / "watched.jsonl"

        def poll(self) -> int:
            return 0

    Ended.watched.write_text('{"kind": "val_loss", "step": 7, "value": 0.5}\n', encoding="utf-8")
    study = optuna.create_study(direction=direction)
    assert _watch(Ended(), study.ask(), "val_loss") == 0  # type: ignore[arg-type]
    assert study.trials[0].intermediate_values == {7: reported}


def test_a_trial_that_another_worker_has_taken_over_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Running:
        watched = tmp_path / "watched.jsonl"

        def poll(self) -> None:
            return None

    monkeypatch.setattr(trial_module, "_STILL_OURS_SECONDS", 0.0)
    study = optuna.create_study()
    trial = study.ask()
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    with pytest.raises(trial_module.TrialTakenError):
        _watch(Running(), trial, None)  # type: ignore[arg-type]


def test_a_storages_password_reaches_neither_the_run_nor_a_command_line(workdir: Path, monkeypatch: pytest.MonkeyPatch):
    url = f"sqlite:///{workdir / 'secret.db'}"
    path = written(workdir, storage=url, confirm={"best": 0})
    spec, base = load_sweep(path, {})
    started: list[list[str]] = []
    fork_studies(monkeypatch.setattr)

    class Started:
        def __init__(self, command: list[str], **_: Any):
            started.append(command)

        def poll(self) -> int:
            return 0

        terminate = wait = poll

    monkeypatch.setattr(local_workers, "subprocess", SimpleNamespace(Popen=Started, DEVNULL=None))
    outcome = launch.run_sweep(spec, base, path, url, workers=1)
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    run = client.get_run(outcome.run_id)
    logged = Path(client.download_artifacts(outcome.run_id, "sweep.yaml", str(workdir))).read_text(encoding="utf-8")
    assert started
    for text in (str(run.data.to_dictionary()), logged, str(started)):
        assert "secret.db" not in text


def test_a_conditional_setting_is_only_suggested_where_its_condition_holds():
    space = {
        "network.rank": Dimension(type="categorical", choices=(4, 8)),
        "network.alpha": Dimension(type="float", low=1, high=2, when={"network.rank": (8,)}),
    }
    for rank, names in ((4, {"network.rank"}), (8, {"network.rank", "network.alpha"})):
        trial = optuna.trial.FixedTrial({"network.rank": rank, "network.alpha": 1.5})
        assert set(suggest(trial, space)) == names  # type: ignore[arg-type]


def test_a_grid_has_every_combination():
    space = {
        "a": Dimension(type="categorical", choices=("x", "y")),
        "b": Dimension(type="int", low=1, high=3),
        "c": Dimension(type="float", low=0.1, high=0.3, step=0.1),
    }
    found = grid(space)
    assert len(found) == 2 * 3 * 3
    assert {one["b"] for one in found} == {1, 2, 3}
    assert sorted({one["c"] for one in found}) == [0.1, 0.2, 0.3]  # to the last bit: 0.1 + 2 * 0.1 would be above the end


@pytest.mark.parametrize(
    ("text", "parts"), [("parameters <= 5e6", ("parameters", "<=", 5e6)), ("ssim>=0.3", ("ssim", ">=", 0.3))]
)
def test_constraints_are_read(text: str, parts: tuple[str, str, float]):
    assert read_constraint(text) == parts


def test_a_study_goes_on_with_the_trials_that_remain_and_refuses_another_search_space(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    spec, base = load_sweep(written(tmp_path), {})
    study = open_study(spec, base, url, create=True)
    assert ask_for(study, spec) == 3
    longer, _ = load_sweep(written(tmp_path), {"trials": "5"})
    again = open_study(longer, base, url, create=False)
    assert ask_for(again, longer) == 5
    assert [trial.user_attrs["slot"] for trial in trials_of(again)] == [0, 1, 2, 3, 4]
    assert len(again.trials) == 5
    other, base = load_sweep(written(tmp_path, search_space={"network.rank": {"type": "int", "low": 1, "high": 9}}), {})
    with pytest.raises(
        InputError,
        match=r"was begun with another experiment, search space or objective \(search_space was .*, or give this sweep another name",
    ):
        open_study(other, base, url, create=True)
    unknown, base = load_sweep(written(tmp_path, name="unknown"), {})
    with pytest.raises(InputError, match="holds no study 'unknown'; begin it with fashion-ml sweep"):
        open_study(unknown, base, url, create=False)


def test_a_password_in_a_storage_url_is_never_shown():
    assert hidden("postgresql://me:secret@host:5432/db") == "postgresql://me:***@host:5432/db"
    assert "secret" not in hidden("postgresql://me@host/db?password=secret")
    assert "cret" not in hidden("postgresql://me:se@cret@host/db")
    spec_like = json.dumps(hidden("not a url with me:secret@host"))
    assert "secret" not in spec_like


RATE = {"optimizer.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}}


def a_study(folder: Path, **changes: Any) -> tuple[Any, Any]:
    changes = {"search_space": RATE, "sampler": {"name": "random"}, "heartbeat_seconds": 1, **changes}
    spec, base = load_sweep(written(folder, **changes), {})
    study = open_study(spec, base, f"sqlite:///{folder / 'study.db'}", create=True)
    set_run(study, "study")
    return spec, study


def a_runner(spec: Any, folder: Path, **answers: Any) -> TrialRunner:
    """A runner whose trainings answer at once."""
    runner = TrialRunner(spec, folder / "base.yaml", folder / "trials", SimpleNamespace(run_id="study"))  # type: ignore[arg-type]
    evaluation = {"run_id": "e", "metrics": {"weighted_total_loss": {"mean": 0.5}}}
    facts = {"training_seconds": 1.0, "trained_parameters": 10, "evaluation": evaluation}

    def train(trial: Any, params: Any, seed: int, *, prune: bool) -> Any:
        answer = answers.get(f"slot{trial.user_attrs['slot']}", facts)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    runner.train = train  # type: ignore[method-assign]
    return runner


def test_a_trial_that_was_cut_off_is_queued_again_and_one_that_failed_by_its_settings_is_not(tmp_path: Path):
    spec, study = a_study(tmp_path)
    ask_for(study, spec)
    for number, error in enumerate((KeyboardInterrupt(), ConnectionError("away"), TrialError("diverges"))):
        with contextlib.suppress(KeyboardInterrupt, ConnectionError):
            study.optimize(a_runner(spec, tmp_path, **{f"slot{number}": error}), n_trials=1, catch=(TrialError,))
    queue_again(study, Silence(4))
    queue_again(study, Silence(4))  # idempotent
    states = {slot: [trial.state.name for trial in trials] for slot, trials in by_slot(study).items()}
    assert states == {0: ["FAIL", "WAITING"], 1: ["FAIL", "WAITING"], 2: ["FAIL"]}
    assert trials_of(study)[2].user_attrs["error"] == "diverges"
    before = [trials[0].params for trials in by_slot(study).values()]
    study.optimize(a_runner(spec, tmp_path), n_trials=2)
    assert [trial.state.name for trial in trials_of(study)] == ["COMPLETE", "COMPLETE", "FAIL"]
    assert [trial.params for trial in trials_of(study)] == before


def test_a_trial_whose_worker_died_while_it_drew_its_settings_is_queued_again(tmp_path: Path):
    spec, study = a_study(tmp_path, trials=1)
    ask_for(study, spec)
    study._storage.set_trial_state_values(study.trials[0]._trial_id, state=optuna.trial.TrialState.RUNNING)
    queue_again(study, Silence(60))
    assert [trial.state.name for trial in study.trials] == ["RUNNING"]
    time.sleep(0.3)
    queue_again(study, Silence(0.1))
    assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]


def test_two_that_queue_at_once_count_no_slot_twice(tmp_path: Path):
    spec, study = a_study(tmp_path)
    ask_for(study, spec)
    for slot in range(3):  # what another process that read the study before did
        study.enqueue_trial({}, user_attrs={"slot": slot})
    study.optimize(a_runner(spec, tmp_path), n_trials=6, catch=(TrialError,))
    queue_again(study, Silence(4))
    assert [trial.state.name for trial in trials_of(study)] == ["COMPLETE"] * 3
    assert sum(trial.state.name == "COMPLETE" for trial in study.trials) == 3
    assert not study.get_trials(states=(optuna.trial.TrialState.WAITING,))


def test_fewer_trials_take_back_those_that_wait_and_more_queue_them_again(tmp_path: Path):
    spec, study = a_study(tmp_path, trials=4)
    ask_for(study, spec)
    study.optimize(a_runner(spec, tmp_path), n_trials=1)
    fewer = spec.model_copy(update={"trials": 2})
    assert ask_for(study, fewer) == 2
    assert [trial.state.name for trial in trials_of(study)] == ["COMPLETE", "WAITING"]
    assert ask_for(study, spec) == 4


def test_no_two_slots_draw_the_same_settings_whoever_runs_them(tmp_path: Path):
    spec, study = a_study(tmp_path, trials=6)
    ask_for(study, spec)
    _, base = load_sweep(tmp_path / "sweep.yaml", {})
    for _ in range(3):  # three workers, one after the other
        again = open_study(spec, base, f"sqlite:///{tmp_path / 'study.db'}", create=False)
        again.optimize(a_runner(spec, tmp_path), n_trials=2)
    assert len({trial.params["optimizer.learning_rate"] for trial in trials_of(study)}) == 6


def test_what_another_study_left_in_a_folder_is_moved_aside(tmp_path: Path):
    folder = tmp_path / "trial_0000" / "seed_0"
    own_folder(folder, {"study": "one", "rate": "1"})
    (folder / "facts.json").write_text("{}", encoding="utf-8")
    own_folder(folder, {"study": "one", "rate": "1"})
    assert (folder / "facts.json").exists()
    own_folder(folder, {"study": "two", "rate": "1"})
    assert not (folder / "facts.json").exists()
    assert (tmp_path / "trial_0000" / "seed_0.before1" / "facts.json").exists()


def test_a_training_that_was_killed_after_its_end_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its run.json says finished, its own facts are there, and the report to the worker is not."""
    target = tmp_path / "run"
    target.mkdir()
    (target / "run.json").write_text(json.dumps({"run_id": "r", "finished": True}), encoding="utf-8")
    (target / "facts.json").write_text('{"training_seconds": 3}', encoding="utf-8")
    ended: list[Path] = []
    monkeypatch.setattr(trial_module, "finish_rest", ended.append)
    monkeypatch.setattr(trial_module, "TrainingProcess", None)
    facts = run_training("lora", tmp_path / "base.yaml", {}, tmp_path, "r", "0", None)
    assert (facts, ended) == ({"training_seconds": 3}, [target])


def test_a_pruned_trial_shows_no_value(tmp_path: Path):
    from fashion_ml.sweep.report import trial_frame

    spec, study = a_study(tmp_path, trials=1)
    ask_for(study, spec)

    def prune(trial: Any) -> float:
        trial.suggest_float("optimizer.learning_rate", 1e-4, 1e-2, log=True)
        trial.report(0.123, 1)
        raise optuna.TrialPruned

    study.optimize(prune, n_trials=1)
    assert trial_frame(spec, study)["weighted_total_loss"].isna().all()


NEVER = {
    "network.rank": {"type": "categorical", "choices": [2, 4]},
    "optimizer.learning_rate": {"type": "float", "low": 0.1, "high": 0.2, "when": {"network.rank": [8]}},
}


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (NEVER, r"network.rank is never 8; its choices are \[2, 4\]"),
        ({"training.seed": {"type": "int", "low": 0, "high": 9}}, "search_space.training.seed: .* the best seed is luck"),
        ({"seed": {"type": "int", "low": 0, "high": 9}}, "search_space.seed: .* the best seed is luck"),
        ({"guidance_scale": {"type": "float", "low": 1, "high": 9}}, "settings of evaluation, output and tracking"),
    ],
)
def test_a_space_that_searches_nothing_is_refused(space: dict[str, Any], says: str, tmp_path: Path):
    with pytest.raises(InputError, match=says):
        load_sweep(written(tmp_path, search_space=space), {})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seeds": [0, 1, 0]}, "seeds: 0 is given twice"),
        ({"confirm": {"best": 1, "seeds": [101, 101, 102, 103]}}, "confirm.seeds: 101 is given twice"),
        ({"settings": {"seed": 7}}, "settings: training.seed is that of no trial; give `seeds`"),
    ],
)
def test_a_seed_that_would_train_twice_or_never_is_refused(changes: dict[str, Any], says: str, tmp_path: Path):
    with pytest.raises(InputError, match=says):
        load_sweep(written(tmp_path, **changes), {})


def test_short_names_hold_in_a_sweeps_settings(tmp_path: Path):
    _, base = load_sweep(written(tmp_path, settings={"steps": 150}), {})
    assert base.training.max_train_steps == 150
