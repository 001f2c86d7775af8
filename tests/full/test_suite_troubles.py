"""Suites on machines as they are: a folder that is away for an hour, a stop just as a training begins. Minutes, so not in the usual suite."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tests.runs.command import fashion_ml, once
from tests.runs.small_studies import children
from tests.runs.test_suite import SPEC, trials, written


def facts_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "f.json").read_text(encoding="utf-8")))


def test_what_failed_while_its_data_were_away_is_trained_when_they_are_back_in_the_same_runs(workdir: Path, collection: Path):
    uri, photos, away = os.environ["MLFLOW_TRACKING_URI"], workdir / "photos", workdir / "away"
    shutil.copytree(collection / "train", photos)
    settings = {**SPEC["settings"], "evaluation.references": "embedded"}
    written(workdir, recipes={"plain": {}, "own": {"settings": {"data.train_data_dir": "photos"}}}, settings=settings)
    command = ("suite", "suite.yaml", "--workers", "1", "--json", "f.json")
    with once(lambda: any(trial.state.name == "RUNNING" for trial in trials(workdir)), lambda: photos.rename(away)):
        first = fashion_ml(*command, cwd=workdir, uri=uri)
    assert first.returncode == 1, first.stderr
    assert "own, seed 1 failed: data.train_data_dir: 'photos' does not exist" in first.stdout + first.stderr
    assert "--retry-failed trains them once more" in first.stdout
    assert (facts_of(workdir)["complete"], facts_of(workdir)["failed"]) == (3, 3)
    away.rename(photos)
    again = fashion_ml(*command, "--retry-failed", cwd=workdir, uri=uri)
    assert again.returncode == 0, again.stderr
    assert "3 trainings that failed are queued again" in again.stdout + again.stderr
    assert (facts_of(workdir)["complete"], facts_of(workdir)["failed"]) == (6, 0)
    client = MlflowClient(uri)
    for recipe in children(client, client.get_run(facts_of(workdir)["run_id"])):
        runs = children(client, recipe)
        assert [run.info.status for run in runs] == ["FINISHED"] * 3
        assert not any("error" in run.data.tags for run in runs)
        earlier = [run.data.tags.get("resumed.error", "") for run in runs]
        assert all(("does not exist" in error) == (recipe.data.tags["recipe_name"] == "own") for error in earlier)


def test_a_suite_that_is_stopped_as_a_training_begins_leaves_no_run_open_and_goes_on_in_the_same(workdir: Path):
    uri = os.environ["MLFLOW_TRACKING_URI"]
    written(workdir)
    command = [sys.executable, "-m", "fashion_ml", "suite", "suite.yaml", "--workers", "1"]
    with (workdir / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=workdir, stdout=log, stderr=log)
    while not any("run_0" in trial.user_attrs for trial in trials(workdir)):
        assert process.poll() is None, (workdir / "log.txt").read_text(encoding="utf-8")
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 130
    client = MlflowClient(uri)
    there = [run for one in client.search_experiments() for run in client.search_runs([one.experiment_id])]
    assert {run.info.status for run in there} == {"KILLED"}
    begun = next(trial.user_attrs["run_0"] for trial in trials(workdir) if "run_0" in trial.user_attrs)
    assert fashion_ml("suite", "suite.yaml", "--workers", "2", "--json", "f.json", cwd=workdir, uri=uri).returncode == 0
    assert client.get_run(begun).info.status == "FINISHED"
    trainings = [
        run for recipe in children(client, client.get_run(facts_of(workdir)["run_id"])) for run in children(client, recipe)
    ]
    assert len(trainings) == 6
