"""Ctrl-C, SIGTERM and a full disk: the run says so, and what was written is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from safetensors.torch import load_file

from fashion_ml.models.kohya_format import read_metadata
from fashion_ml.reports.loss_log import read_loss_log
from tests.runs.command import FEW, fashion_ml


def start(workdir: Path, *arguments: str, limit: str = "") -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "fashion_ml",
        "train",
        "lora",
        *FEW,
        "--steps",
        "100000",
        "--output-dir",
        "out",
        *arguments,
    ]
    if limit:
        command = ["bash", "-c", f'trap "" XFSZ; ulimit -f {limit}; exec "$@"', "bash", *command]
    return subprocess.Popen(command, cwd=workdir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_stopped_run_is_killed_with_its_log_and_weights_kept(workdir: Path, number: signal.Signals):
    process = start(workdir)
    log = workdir / "out" / "training_logs" / "training_loss_log.txt"
    deadline = time.monotonic() + 200
    while not (log.exists() and len(read_loss_log(log)) >= 3):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert errors.rstrip().endswith("Stopped. A run that had begun is marked KILLED; its log and files are kept.")
    assert "Traceback" not in errors

    (path,) = (workdir / "out").glob("lora-step*.safetensors")
    steps = int(path.stem.removeprefix("lora-step"))
    assert read_metadata(path)["ss_steps"] == str(steps)
    assert load_file(path)
    assert read_loss_log(log)[-1].step <= steps
    assert not (workdir / "out" / "lora.safetensors").exists()
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert run.info.status == "KILLED"
    assert run.data.tags["error"] == "stopped by Ctrl-C or a signal"
    points = client.get_metric_history(run.info.run_id, "total_loss")
    assert [point.step for point in points] == list(range(1, steps + 1))
    assert {item.path for item in client.list_artifacts(run.info.run_id, "lora")} == {f"lora/{path.name}"}
    assert client.list_artifacts(run.info.run_id, "training_logs")


def test_a_training_that_is_stopped_while_it_is_evaluated_repeats_nothing(workdir: Path):
    uri = os.environ["MLFLOW_TRACKING_URI"]
    few = ["--steps", "3", "--set", "evaluation.images_per_reference=20", "--set", "evaluation.batch_size=1"]
    process = start(workdir, *few)
    deadline = time.monotonic() + 200
    images = workdir / "out" / "evaluation" / "images" / "lora"
    while len(list(images.glob("*.png"))) < 4:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    times = {path: path.stat().st_mtime_ns for path in images.glob("*.png")}
    assert 4 <= len(times) < 40
    client = MlflowClient(uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    (training,) = client.search_runs(experiments, "tags.kind = 'train_lora'")
    assert training.info.status == "KILLED"

    arguments = [*FEW, "--output-dir", "out", *few, "--resume"]
    resumed = fashion_ml("train", "lora", *arguments, cwd=workdir, uri=uri)
    assert resumed.returncode == 0, resumed.stderr
    assert "Going on with evaluation" in resumed.stderr
    assert {path: path.stat().st_mtime_ns for path in times} == times
    (evaluation,) = client.search_runs(experiments, "tags.kind = 'evaluation'")
    assert evaluation.info.status == "FINISHED"
    after = client.get_run(training.info.run_id)
    assert after.info.status == "FINISHED"
    assert float(after.data.tags["training_seconds"]) >= float(training.data.tags["training_seconds"]) > 0
    assert len(list((workdir / "out" / "training_logs").glob("*report*.json"))) == 1


def test_a_file_that_does_not_fit_on_the_disk_fails_the_run_in_one_line(workdir: Path):
    """Files may be 3 MB at most: the tracking store fits, a LoRA of rank 256 does not."""
    process = start(workdir, "--steps", "1", "--rank", "256", "--no-evaluate", limit="3000")
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 2, errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "output.output_dir: lora.safetensors" in line
    assert "Traceback" not in errors
    assert not list((workdir / "out").glob("*safetensors*"))
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert run.info.status == "FAILED"
