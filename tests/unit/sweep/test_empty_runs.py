"""Runs that a kill left with nothing in them: those of sweeps and suites and of their trainings go as a training's own does."""

from __future__ import annotations

from pathlib import Path

import optuna

from fashion_ml.runs.ending import close_dead_runs
from fashion_ml.runtime.process_id import own_process
from fashion_ml.sweep import launch
from fashion_ml.sweep.study import set_run
from fashion_ml.tracking.run import open_run
from fashion_ml.tracking.store import open_tracking
from tests.unit.sweep.test_study import a_study


def test_a_study_killed_before_its_run_held_anything_begins_another_and_no_empty_one_stays(workdir: Path):
    """One that the study had noted, and one that it had not yet."""
    host = own_process().partition("/")[0]
    client, (spec, study) = open_tracking(), a_study(workdir)
    dead = {"kind": "sweep", "process": f"{host}/999999999/1.0"}
    noted, other = (client.create_run("0", tags=dead).info.run_id for _ in range(2))
    set_run(study, noted)
    assert close_dead_runs() == 2
    with launch.begun(spec, study, "Default") as run:
        late = client.create_run("0", tags=dead).info.run_id
    with launch.begun(spec, study, "Default") as again:
        assert again.run_id == run.run_id != noted
    assert {one.info.run_id for one in client.search_runs(["0"])} == {run.run_id}
    assert {client.get_run(one).info.lifecycle_stage for one in (noted, other, late)} == {"deleted"}


def test_a_trainings_run_that_no_trial_has_noted_is_removed_and_one_that_it_knows_stays(workdir: Path):
    host = own_process().partition("/")[0]
    client, study = open_tracking(), optuna.create_study()
    with open_run("small", {"kind": "sweep"}, experiment="Default") as run:
        tags = {"sweep": "small", "trial": "0", "process": f"{host}/999999999/1.0", "mlflow.parentRunId": run.run_id}
        lost, known = (client.create_run(run.experiment_id, tags=tags).info.run_id for _ in range(2))
        study.ask().set_user_attr("run_3", known)
        launch.ended(study, run, workdir)
    assert client.get_run(lost).info.lifecycle_stage == "deleted"
    assert (client.get_run(known).info.lifecycle_stage, client.get_run(known).info.status) == ("active", "KILLED")
