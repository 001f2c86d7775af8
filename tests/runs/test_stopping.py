"""Ctrl-C, SIGTERM and a full disk: the run says so, and what was written is kept. In processes of their own: tests/full."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from safetensors.torch import load_file

from fashion_ml.models.kohya_format import read_metadata
from fashion_ml.reports.loss_log import read_loss_log
from tests.runs.command import FEW, fashion_ml, once

TRAIN = ("train", "lora", *FEW, "--steps", "10000", "--output-dir", "out")
TOO_LARGE = ("--steps", "1", "--rank", "256", "--no-evaluate")


def stopped(workdir: Path, *arguments: str, number: signal.Signals) -> subprocess.CompletedProcess[str]:
    """A training in this process that is sent a signal when it has made some steps, or some images of its evaluation."""
    images = workdir / "out" / "evaluation" / "images" / "lora"

    def far_enough() -> bool:
        return len(list(images.glob("*.png"))) >= 4 if arguments else has_rows(workdir)

    with once(far_enough, lambda: os.kill(os.getpid(), number)):
        return fashion_ml(*TRAIN, *arguments, cwd=workdir, uri=os.environ["MLFLOW_TRACKING_URI"])


def has_rows(workdir: Path) -> bool:
    log = workdir / "out" / "training_logs" / "training_loss_log.txt"
    return log.exists() and len(read_loss_log(log)) >= 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_stopped_run_is_killed_with_its_log_and_weights_kept(workdir: Path, number: signal.Signals):
    result = stopped(workdir, number=number)
    check_stopped(workdir, result.returncode, result.stderr)


def check_stopped(workdir: Path, code: int, errors: str) -> None:
    """What a training that was stopped between two steps has said and left."""
    assert code == 130, errors
    assert errors.rstrip().endswith("Stopped. A run that had begun is marked KILLED; its log and files are kept.")
    assert "Traceback" not in errors

    (path,) = (workdir / "out").glob("lora-step*.safetensors")
    steps = int(path.stem.removeprefix("lora-step"))
    assert read_metadata(path)["ss_steps"] == str(steps)
    assert load_file(path)
    assert read_loss_log(workdir / "out" / "training_logs" / "training_loss_log.txt")[-1].step <= steps
    assert not (workdir / "out" / "lora.safetensors").exists()
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert run.info.status == "KILLED"
    assert run.data.tags["error"] == "stopped by Ctrl-C or a signal"
    points = client.get_metric_history(run.info.run_id, "total_loss")
    assert [point.step for point in points] == list(range(1, steps + 1))
    assert {item.path for item in client.list_artifacts(run.info.run_id, "lora")} == {f"lora/{path.name}"}
    assert client.list_artifacts(run.info.run_id, "training_logs")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No larger file can be written by this process (in bytes)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_does_not_fit_on_the_disk_fails_the_run_in_one_line(workdir: Path):
    """Files may be 3 MB at most: the tracking store fits, a LoRA of rank 256 does not."""
    with files_of_at_most(3000 * 1024):
        result = fashion_ml(*TRAIN, *TOO_LARGE, cwd=workdir, uri=os.environ["MLFLOW_TRACKING_URI"])
    check_failed(workdir, result.returncode, result.stderr)


def check_failed(workdir: Path, code: int, errors: str) -> None:
    """What a training has said and left whose weights could not be written."""
    assert code == 2, errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "output.output_dir: lora.safetensors" in line
    assert "Traceback" not in errors
    assert not list((workdir / "out").glob("*safetensors*"))
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert run.info.status == "FAILED"
