"""What the adapter takes from Optuna's inside is there in the installed version and does what it is for; a failure names that version."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from fashion_ml.sweep.optuna_private import heartbeats, made_again, take_one_by_one, withdraw


@contextmanager
def as_in_this_version(what: str) -> Iterator[None]:
    try:
        yield
    except (AttributeError, ImportError, TypeError, AssertionError) as error:
        pytest.fail(f"optuna {optuna.__version__} no longer has {what}: see fashion_ml/sweep/optuna_private.py ({error})")


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db", heartbeat_interval=60, grace_period=120)
    return optuna.create_study(storage=storage, study_name="test")


def test_heartbeats_are_those_of_running_trials_that_had_any(study: optuna.Study):
    def beats(trial: optuna.Trial) -> float:
        deadline = time.monotonic() + 20  # a thread beats, which a busy machine may start late
        while list(heartbeats(study)[1]) != [trial.number] and time.monotonic() < deadline:
            time.sleep(0.05)
        now, found = heartbeats(study)
        return (now - found[trial.number]).total_seconds()

    with as_in_this_version("the table of heartbeats"):
        study.ask()
        study.optimize(beats, n_trials=1)
        assert 0 <= study.trials[1].value <= 21
        assert heartbeats(study)[1] == {}


def test_a_waiting_trial_is_withdrawn_with_its_mark_and_an_ended_one_stays(study: optuna.Study):
    with as_in_this_version("trials that can be failed in the storage"):
        study.enqueue_trial({"x": 1})
        withdraw(study, study.trials[0], "surplus")
        assert (study.trials[0].state, study.trials[0].user_attrs) == (TrialState.FAIL, {"surplus": True})
        study.add_trial(optuna.create_trial(value=1.0))
        withdraw(study, study.trials[1], "surplus")
        assert (study.trials[1].state, study.trials[1].user_attrs) == (TrialState.COMPLETE, {})


def test_a_trial_made_again_has_the_settings_that_were_drawn_and_those_that_were_queued(study: optuna.Study):
    with as_in_this_version("fixed_params and drawn params of waiting trials"):
        study.enqueue_trial({"queued": 0.25}, user_attrs={"slot": 3})
        first = study.ask()
        drawn = first.suggest_float("drawn", 0, 1)
        study.tell(first, state=TrialState.FAIL)
        study.add_trial(made_again(study.trials[0]))
        again = study.ask()
        assert again.number == 1
        assert again.user_attrs == {"slot": 3}
        assert (again.suggest_float("drawn", 0, 1), again.suggest_float("queued", 0, 1)) == (drawn, 0.25)


def alone(folder: Path, seconds: float) -> optuna.storages.RDBStorage:
    """The storage of a file, as a worker of its own has it, which waits so long for others."""
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{folder}/study.db", engine_kwargs={"connect_args": {"timeout": seconds}}, heartbeat_interval=60
    )
    take_one_by_one(storage)
    return storage


def test_a_transaction_on_a_file_is_alone_before_it_has_written(study: optuna.Study, tmp_path: Path):
    with as_in_this_version("an engine of its storage"):
        first, second = alone(tmp_path, 0), alone(tmp_path, 0)
        with first.engine.begin(), pytest.raises(OperationalError, match="locked"), second.engine.begin():
            pass
        with second.engine.begin():
            pass


def test_workers_that_ask_at_once_never_take_one_waiting_trial_twice(study: optuna.Study, tmp_path: Path):
    for number in range(24):
        study.enqueue_trial({"x": number})

    def worker(_: int) -> list[int]:
        own = optuna.load_study(study_name="test", storage=alone(tmp_path, 60), sampler=optuna.samplers.RandomSampler())
        return [own.ask().number for _ in range(8)]

    with ThreadPoolExecutor(3) as pool:
        taken = sorted(number for numbers in pool.map(worker, range(3)) for number in numbers)
    assert taken == list(range(24))
