"""kill -9 of an evaluation in a process of its own; tests/runs/test_stopping.py stops one by a signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mlflow import MlflowClient

from tests.runs.command import FEW, SHORT, fashion_ml


def test_a_killed_evaluation_goes_on_where_it_stopped(workdir: Path):
    uri = os.environ["MLFLOW_TRACKING_URI"]
    trained = fashion_ml("train", "lora", *SHORT, *FEW, "--no-evaluate", "--json", "trained.json", cwd=workdir, uri=uri)
    assert trained.returncode == 0, trained.stderr
    run_id = json.loads((workdir / "trained.json").read_text(encoding="utf-8"))["run_id"]
    command = [sys.executable, "-m", "fashion_ml", "evaluate", "run", run_id, "--images_per_reference", "40"]
    process = subprocess.Popen(command, cwd=workdir, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while len(made := list((workdir / "outputs").rglob("images/lora/*.png"))) < 8:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    made = list((workdir / "outputs").rglob("images/lora/*.png"))
    assert len(made) < 80
    times = {path: path.stat().st_mtime_ns for path in made}
    result = fashion_ml(*command[3:], "--json", "facts.json", cwd=workdir, uri=uri)
    assert result.returncode == 0, result.stderr
    assert "Going on with evaluation" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in made} == times
    facts = json.loads((workdir / "facts.json").read_text(encoding="utf-8"))
    client = MlflowClient(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], "tags.kind = 'evaluation'")
    assert sum(run.data.params.get("evaluation.images_per_reference") == "40" for run in runs) == 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert facts["images"] == 80
