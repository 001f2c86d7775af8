"""Ctrl-C, SIGTERM and a full disk in processes of their own, as a shell has them; tests/runs/test_stopping.py has them in the test's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.runs.command import fashion_ml
from tests.runs.test_stopping import TOO_LARGE, TRAIN, check_failed, check_stopped, has_rows, stopped

COMMAND = [sys.executable, "-m", "fashion_ml", *TRAIN]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_stopped_process_ends_with_its_log_and_weights_kept(workdir: Path, number: signal.Signals):
    process = subprocess.Popen(COMMAND, cwd=workdir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not has_rows(workdir):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    check_stopped(workdir, process.returncode, errors)


def test_a_file_that_does_not_fit_on_the_disk_fails_the_process_in_one_line(workdir: Path):
    command = ["bash", "-c", 'trap "" XFSZ; ulimit -f 3000; exec "$@"', "bash", *COMMAND, *TOO_LARGE]
    done = subprocess.run(command, cwd=workdir, capture_output=True, text=True, check=False, timeout=200)
    check_failed(workdir, done.returncode, done.stderr)


def test_a_training_that_is_stopped_while_it_is_evaluated_repeats_nothing(workdir: Path):
    few = ["--steps", "3", "--set", "evaluation.images_per_reference=4", "--set", "evaluation.batch_size=1"]
    first = stopped(workdir, *few, number=signal.SIGTERM)
    assert first.returncode == 130, first.stderr
    images = workdir / "out" / "evaluation" / "images" / "lora"
    times = {path: path.stat().st_mtime_ns for path in images.glob("*.png")}
    assert 4 <= len(times) < 8
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiments = [e.experiment_id for e in client.search_experiments()]
    (training,) = client.search_runs(experiments, "tags.kind = 'train_lora'")
    assert training.info.status == "KILLED"

    resumed = fashion_ml(*TRAIN, *few, "--resume", cwd=workdir, uri=os.environ["MLFLOW_TRACKING_URI"])
    assert resumed.returncode == 0, resumed.stderr
    assert "Going on with evaluation" in resumed.stderr
    assert {path: path.stat().st_mtime_ns for path in times} == times
    (evaluation,) = client.search_runs(experiments, "tags.kind = 'evaluation'")
    assert evaluation.info.status == "FINISHED"
    after = client.get_run(training.info.run_id)
    assert after.info.status == "FINISHED"
    assert float(after.data.tags["training_seconds"]) >= float(training.data.tags["training_seconds"]) > 0
    assert len(list((workdir / "out" / "training_logs").glob("*report*.json"))) == 1
