"""Runs by the first digits of their ids, by their names, and the latest."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from fashion_ml.errors import InputError
from fashion_ml.tracking.run_ids import find_meant


@pytest.fixture
def client(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")


def run(client: Any, name: str, start: int, kind: str = "train_lora", status: str = "FINISHED", experiment: str = "one") -> str:
    there = client.get_experiment_by_name(experiment)
    place = there.experiment_id if there else client.create_experiment(experiment)
    made = client.create_run(place, run_name=name, start_time=start, tags={"kind": kind}).info.run_id
    client.set_terminated(made, status)
    return str(made)


def test_an_id_its_first_digits_and_its_name_mean_a_run_of_any_experiment(client: Any):
    first, second = run(client, "dress", 1), run(client, "hat", 2, experiment="two")
    for given, expected in ((first, first), (first[:8], first), (second[:12], second), ("hat", second)):
        assert find_meant(client, given).info.run_id == expected


def test_a_name_means_the_training_not_what_lies_below_it(client: Any):
    training = run(client, "look", 1)
    run(client, "look", 2, kind="evaluation")
    assert find_meant(client, "look").info.run_id == training


def test_latest_is_the_newest_training_that_has_finished(client: Any, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    run(client, "old", 1)
    newest = run(client, "gan", 5, kind="train_stargan", experiment="two")
    run(client, "killed", 9, status="KILLED")
    run(client, "evaluation", 10, kind="evaluation")
    assert find_meant(client, "latest").info.run_id == newest
    assert f"latest is run {newest} (gan, train_stargan)" in caplog.messages
    with pytest.raises(InputError, match=r"latest: .* has no finished run of the kind sweep; give an id"):
        find_meant(client, "latest", kinds=("sweep",))


def test_what_may_be_several_runs_is_one_line_with_the_candidates(client: Any):
    ids = [run(client, "same", number) for number in range(7)]
    with pytest.raises(InputError, match=r"run_id: 'same' may be 7 runs in .*; 2 more; give more of the id") as caught:
        find_meant(client, "same")
    assert ids[-1] in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("given", ["nothing", "abcd", "a'b", "0" * 32, "", "100%"])
def test_what_is_no_run_is_said(given: str, client: Any):
    run(client, "one", 1)
    with pytest.raises(InputError, match=r"run_id: .* is not in "):
        find_meant(client, given)
