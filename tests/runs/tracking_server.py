"""A real MLflow server that can be killed, and what trainings beside it must have kept."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tests.runs.command import SHORT, free_port, wait_until_healthy
from tests.runs.forked import ForkedPopen

PASSWORD = "open-sesame"
LONG = [*SHORT, "--steps", "150", "--log_every", "1"]


class Server:
    """An MLflow server that can be killed and started again; its database stays."""

    def __init__(self, folder: Path, database: str):
        self.port = free_port()
        self.uri = f"http://someone:{PASSWORD}@127.0.0.1:{self.port}"
        self._folder, self._process = folder, None
        self.artifacts, self.database = (
            folder / "artifacts",
            folder / "pgdata",
        )  # PostgreSQL's files, its log of what was written included
        self._command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--workers",
            "1",
        ]
        self._command += ["--backend-store-uri", database, "--artifacts-destination", str(self.artifacts)]

    def start(self) -> None:
        with (self._folder / "server.log").open("ab") as log:
            self._process: Any = subprocess.Popen(
                self._command, cwd=self._folder, stdout=log, stderr=log, start_new_session=True
            )
        wait_until_healthy(self.port, self._folder / "server.log")

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def begin(folder: Path, uri: str, *more: str) -> ForkedPopen:
    command = [sys.executable, "-m", "fashion_ml", "train", "lora", *LONG, "--output-dir", "out", "--json", "facts.json", *more]
    with (folder / "log.txt").open("wb") as log:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"}
        return ForkedPopen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def spooled(folder: Path) -> list[dict[str, Any]]:
    path = folder / "out" / "spool" / "operations.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def points(folder: Path) -> dict[str, list[tuple[int, int, float]]]:
    """What the spool holds of the training run: by metric, (step, time, value)."""
    run_id = json.loads((folder / "out" / "run.json").read_text(encoding="utf-8"))["run_id"]
    found: dict[str, list[tuple[int, int, float]]] = {}
    for operation in spooled(folder):
        for key, value, stamp, step in operation.get("metrics", ()) if operation["run"] == run_id else ():
            found.setdefault(key, []).append((step, stamp, value))
    return found


def steps_spooled(folder: Path) -> int:
    return sum("metrics" in operation for operation in spooled(folder))


def wait_for_steps(folder: Path, count: int, process: ForkedPopen) -> None:
    deadline = time.monotonic() + 200
    while steps_spooled(folder) < count:
        assert process.poll() is None, (folder / "log.txt").read_text(encoding="utf-8")
        assert time.monotonic() < deadline
        time.sleep(0.1)


def assert_stored_once(folder: Path, uri: str) -> None:
    run_id = json.loads((folder / "out" / "run.json").read_text(encoding="utf-8"))["run_id"]
    client, expected = MlflowClient(uri), points(folder)
    assert set(client.get_run(run_id).data.metrics) == set(expected)
    for key, wanted in expected.items():
        stored = [(p.step, p.timestamp, p.value) for p in client.get_metric_history(run_id, key)]
        assert sorted(stored) == sorted(wanted), key
    assert {item.path for item in client.list_artifacts(run_id)} >= {"config.yaml"}


def assert_no_password(*places: Path) -> None:
    assert all(any(path.is_file() for path in place.rglob("*")) for place in places)  # else nothing is looked at
    told = [path for place in places for path in place.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert told == []


def check_outage(server: Server, folder: Path, seconds: float, steps: int) -> float:
    """Kill the server under a training for so long; nothing is lost. The longest time between two steps, in seconds."""
    process = begin(folder, server.uri, "--no-evaluate", "--steps", str(steps))
    wait_for_steps(folder, 15, process)
    server.kill()
    time.sleep(seconds)
    assert process.poll() is None, (folder / "log.txt").read_text(encoding="utf-8")
    during = len(points(folder)["total_loss"])
    server.start()
    assert process.wait(400) == 0, (folder / "log.txt").read_text(encoding="utf-8")
    said = (folder / "log.txt").read_text(encoding="utf-8")
    assert said.count("does not answer") == 1
    assert "answers again" in said
    stamps = [stamp for _, stamp, _ in points(folder)["total_loss"]]
    assert len(stamps) == steps
    assert during > 30  # it went on without the server
    assert_stored_once(folder, server.uri)
    assert_no_password(folder / "out", server.artifacts, server.database)
    assert PASSWORD not in said
    return max(after - before for before, after in itertools.pairwise(stamps)) / 1000
