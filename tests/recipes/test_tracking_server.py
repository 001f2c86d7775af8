"""Trainings beside a real MLflow server on PostgreSQL that dies, comes back, or stays away: no point is lost, none is double."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.recipes.command import SHORT, fashion_ml, free_port, wait_until_healthy
from tests.recipes.postgres import Postgres

PASSWORD = "open-sesame"
LONG = [*SHORT, "--steps", "150", "--log_every", "1"]


class Server:
    """An MLflow server that can be killed and started again; its database stays."""

    def __init__(self, folder: Path, database: str):
        self.port = free_port()
        self.uri = f"http://someone:{PASSWORD}@127.0.0.1:{self.port}"
        self._folder, self._process = folder, None
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
        self._command += ["--backend-store-uri", database, "--artifacts-destination", str(folder / "artifacts")]

    def start(self) -> None:
        with (self._folder / "server.log").open("ab") as log:
            self._process: Any = subprocess.Popen(
                self._command, cwd=self._folder, stdout=log, stderr=log, start_new_session=True
            )
        wait_until_healthy(self.port, self._folder / "server.log")

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    postgres = Postgres(folder)
    postgres.start()
    one = Server(folder, postgres.url(driver="+psycopg", password=PASSWORD))
    one.start()
    yield one
    one.kill()
    postgres.stop()


def begin(folder: Path, uri: str, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fashion_ml", "train", "lora", *LONG, "--output-dir", "out", "--json", "facts.json", *more]
    with (folder / "log.txt").open("wb") as log:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


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


def wait_for_steps(folder: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 200
    while sum("metrics" in operation for operation in spooled(folder)) < count:
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
    told = [path for place in places for path in place.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert told == []


def test_a_server_that_is_killed_for_a_while_costs_no_time_and_no_point(server: Server, workdir: Path):
    process = begin(workdir, server.uri, "--no-evaluate")
    wait_for_steps(workdir, 15, process)
    server.kill()
    time.sleep(8)
    assert process.poll() is None, (workdir / "log.txt").read_text(encoding="utf-8")
    during = len(points(workdir)["total_loss"])
    server.start()
    assert process.wait(300) == 0, (workdir / "log.txt").read_text(encoding="utf-8")
    said = (workdir / "log.txt").read_text(encoding="utf-8")
    assert said.count("does not answer") == 1
    assert "answers again" in said
    stamps = [stamp for _, stamp, _ in points(workdir)["total_loss"]]
    assert len(stamps) == 150
    assert during > 30  # it went on without the server
    assert max(after - before for before, after in itertools.pairwise(stamps)) < 1500
    assert_stored_once(workdir, server.uri)
    assert_no_password(workdir / "out", server._folder / "artifacts")
    assert PASSWORD not in said


def test_a_server_that_stays_away_is_told_and_sync_sends_the_rest(server: Server, workdir: Path):
    """With an evaluation, whose runs do not exist yet for anyone but the spool."""
    more = ("--steps", "40", "--set", "evaluation.max_references=2", "--set", "evaluation.num_inference_steps=1")
    process = begin(workdir, server.uri, *more, "--set", "evaluation.images_per_reference=1")
    wait_for_steps(workdir, 10, process)
    server.kill()
    assert process.wait(300) == 0, (workdir / "log.txt").read_text(encoding="utf-8")
    said = (workdir / "log.txt").read_text(encoding="utf-8")
    assert f"fashion-ml sync {workdir / 'out'}" in said
    assert PASSWORD not in said
    server.start()
    for _ in range(2):  # the second time there is nothing to send
        result = fashion_ml("sync", "out", cwd=workdir, uri=server.uri)
        assert result.returncode == 0, result.stderr
        assert "everything is in the store" in result.stdout
    assert_stored_once(workdir, server.uri)
    client = MlflowClient(server.uri)
    run = client.get_run(json.loads((workdir / "out" / "run.json").read_text(encoding="utf-8"))["run_id"])
    assert run.info.status == "FINISHED"
    runs = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
    (evaluation,) = runs
    assert evaluation.info.status == "FINISHED"
    assert run.data.tags["eval.run_id"] == evaluation.info.run_id
    assert run.data.metrics["eval/weighted_total_loss"] == evaluation.data.metrics["weighted_total_loss"]
    below = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{evaluation.info.run_id}'")
    assert sorted(child.info.run_name for child in below) == ["color", "fashion_clip", "ssim"]
    assert {child.info.status for child in below} == {"FINISHED"}
    assert "report.html" in {item.path for item in client.list_artifacts(evaluation.info.run_id)}


def test_a_killed_trainings_points_are_sent_by_sync_and_its_run_is_ended(server: Server, workdir: Path):
    process = begin(workdir, server.uri, "--no-evaluate")
    wait_for_steps(workdir, 10, process)
    server.kill()
    wait_for_steps(workdir, 40, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with (workdir / "out" / "spool" / "operations.jsonl").open("ab") as file:
        file.write(b'{"do":"batch","run":"x","metr')  # as a crash in the middle of a line leaves it
    server.start()
    result = fashion_ml("sync", cwd=workdir, uri=server.uri)
    assert result.returncode == 0, result.stderr
    assert "Nothing waits" in result.stdout  # outputs/ is empty: the folder was given
    result = fashion_ml("sync", "out", cwd=workdir, uri=server.uri)
    assert result.returncode == 0, result.stderr
    assert "its process had been killed: ended now" in result.stdout
    run_id = json.loads((workdir / "out" / "run.json").read_text(encoding="utf-8"))["run_id"]
    assert MlflowClient(server.uri).get_run(run_id).info.status == "KILLED"
    assert len(points(workdir)["total_loss"]) >= 30
    assert_stored_once(workdir, server.uri)
