"""Sweeps whose processes are killed: minutes, so not in the ordinary suite."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mlflow import MlflowClient

from tests.recipes.command import fashion_ml
from tests.recipes.test_sweep import children, written


def test_a_sweep_whose_processes_are_killed_ends_with_every_trial_once(workdir: Path):
    uri = os.environ["MLFLOW_TRACKING_URI"]
    written(workdir, trials=2, confirm={"best": 0})
    command = [sys.executable, "-m", "fashion_ml", "sweep", "sweep.yaml", "--workers", "1"]
    with (workdir / "errors.txt").open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(command, cwd=workdir, stdout=subprocess.DEVNULL, stderr=errors)
    trials = workdir / "outputs" / "sweeps" / "small" / "trials"
    deadline = time.monotonic() + 200
    while not list(trials.glob("*/*/run/run.json")):
        assert process.poll() is None, (workdir / "errors.txt").read_text(encoding="utf-8")
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    result = fashion_ml("sweep", "sweep.yaml", "--workers", "1", "--json", "facts.json", cwd=workdir, uri=uri)
    assert result.returncode == 0, result.stderr
    facts = json.loads((workdir / "facts.json").read_text(encoding="utf-8"))
    assert (facts["complete"], facts["failed"], facts["left"]) == (2, 0, 0)
    client = MlflowClient(uri)
    study = client.get_run(facts["run_id"])
    assert len(children(client, study)) == 2
    assert {run.info.status for run in client.search_runs([study.info.experiment_id])} == {"FINISHED"}
