"""kill -9 in the middle, the same command with --resume, and nothing shows that it was ever stopped."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fashion_ml.reports.loss_log import read_loss_log
from fashion_ml.runs.training_speed import OF_THE_MACHINE
from tests.runs.command import fashion_ml, once
from tests.runs.forked import ForkedPopen

SETTINGS = [
    *("--steps", "24", "--rank", "4", "--seed", "3", "--no-evaluate", "--log_every", "2", "--resolution", "32"),
    *("--save_every_n_steps", "5", "--validation_split", "0.1", "--validate_every_n_steps", "8", "--save_last_n", "2"),
]


def points(uri: str, run_id: str) -> dict[str, list[tuple[int, float]]]:
    client = MlflowClient(uri)
    names = client.get_run(run_id).data.metrics.keys() - {*OF_THE_MACHINE}
    return {name: sorted((point.step, point.value) for point in client.get_metric_history(run_id, name)) for name in names}


def run_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def reached(workdir: Path, step: int) -> bool:
    log = workdir / "out" / "training_logs" / "training_loss_log.txt"
    return log.exists() and any(row.step >= step for row in read_loss_log(log))


def killed_at(workdir: Path, step: int, *arguments: str) -> None:
    """Start or go on with the training in `workdir/out`, and kill it as soon as the loss log has a row of `step`."""
    command = [sys.executable, "-m", "fashion_ml", "train", "lora", *SETTINGS, "--output-dir", "out", *arguments]
    with (workdir / "stderr.txt").open("w", encoding="utf-8") as errors:
        process = ForkedPopen(command, cwd=workdir, stderr=errors)
    deadline = time.monotonic() + 200
    while not reached(workdir, step):
        assert process.poll() is None, (workdir / "stderr.txt").read_text(encoding="utf-8")
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


SHOWN = ["--log_with", "tensorboard", "--sample_every", "6", "--set", "evaluation.num_inference_steps=1"]


def test_killed_and_resumed_is_as_if_never_stopped(workdir: Path):
    check_killed_and_resumed(workdir, SHOWN, kills=[10])


def check_killed_and_resumed(workdir: Path, extra: list[str], kills: list[int]) -> None:
    """A training killed at some steps against one that was never stopped: weights, points, logs, files."""
    uri = os.environ["MLFLOW_TRACKING_URI"]
    whole = fashion_ml("train", "lora", *SETTINGS, *extra, "--output-dir", "whole", cwd=workdir, uri=uri)
    assert whole.returncode == 0, whole.stderr

    for number, step in enumerate(kills):
        killed_at(workdir, step, *extra, *(["--resume"] if number else []))
    refused = fashion_ml("train", "lora", *SETTINGS, *extra, "--output-dir", "out", cwd=workdir, uri=uri)
    assert refused.returncode == 2
    assert "holds an unfinished run; go on with it by --resume, or start over by --new" in refused.stderr
    resumed = fashion_ml("train", "lora", *SETTINGS, *extra, "--output-dir", "out", "--resume", cwd=workdir, uri=uri)
    assert resumed.returncode == 0, resumed.stderr

    for name in ("lora.safetensors", "best.safetensors"):
        first, second = load_file(workdir / "whole" / name), load_file(workdir / "out" / name)
        assert first.keys() == second.keys()
        assert all((first[key] == second[key]).all() for key in first)
    ids = [run_of(workdir / folder)["run_id"] for folder in ("whole", "out")]
    expected, found = (points(uri, run_id) for run_id in ids)
    assert found == expected
    assert [step for step, _ in found["total_loss"]] == list(range(1, 25))
    assert [step for step, _ in found["val_loss_gain"]] == [8, 16, 24]
    logs = [read_loss_log(workdir / folder / "training_logs" / "training_loss_log.txt") for folder in ("whole", "out")]
    assert [(row.step, row.total_loss) for row in logs[0]] == [(row.step, row.total_loss) for row in logs[1]]
    if extra == SHOWN:
        boards = [EventAccumulator(str(workdir / folder / "tensorboard")).Reload() for folder in ("whole", "out")]
        for name in ("total_loss", "val_loss"):
            whole_points, found_points = ([(e.step, e.value) for e in board.Scalars(name)] for board in boards)
            assert found_points == whole_points
        samples = [sorted(item.path.split("+")[2] for item in MlflowClient(uri).list_artifacts(i, "images")) for i in ids]
        assert samples[0] == samples[1] != []
    assert MlflowClient(uri).get_run(ids[1]).info.status == "FINISHED"
    assert len(list((workdir / "out").glob("lora-step*.safetensors"))) == 2


def test_other_settings_are_refused_by_name_and_new_moves_the_old_run_aside(workdir: Path):
    uri = os.environ["MLFLOW_TRACKING_URI"]
    with once(lambda: reached(workdir, 4), lambda: os.kill(os.getpid(), signal.SIGTERM)):
        stopped = fashion_ml("train", "lora", *SETTINGS, "--steps", "1000", "--output-dir", "out", cwd=workdir, uri=uri)
    assert stopped.returncode == 130, stopped.stderr
    before = run_of(workdir / "out")["run_id"]
    other = fashion_ml("train", "lora", *SETTINGS, "--output-dir", "out", "--resume", "--rank", "8", cwd=workdir, uri=uri)
    assert other.returncode == 2
    assert "network.rank: 8, but the run to resume has 4" in other.stderr

    again = fashion_ml("train", "lora", *SETTINGS, "--output-dir", "out", "--new", "--steps", "3", cwd=workdir, uri=uri)
    assert again.returncode == 0, again.stderr
    (aside,) = [path for path in workdir.glob("out.*") if path.is_dir()]
    assert run_of(aside)["run_id"] == before
    assert run_of(workdir / "out")["run_id"] != before

    finished = fashion_ml("train", "lora", *SETTINGS, "--output-dir", "out", "--resume", "--steps", "3", cwd=workdir, uri=uri)
    assert finished.returncode == 2
    assert "is finished; give more max_train_steps than 3" in finished.stderr
    longer = fashion_ml("train", "lora", *SETTINGS, "--output-dir", "out", "--resume", "--steps", "6", cwd=workdir, uri=uri)
    assert longer.returncode == 0, longer.stderr
    assert [step for step, _ in points(uri, run_of(workdir / "out")["run_id"])["total_loss"]] == list(range(1, 7))
