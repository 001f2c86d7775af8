"""The tracking server is gone for a whole minute in the middle of a training, or a training is killed while it is gone."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from mlflow import MlflowClient

from fashion_ml.runtime.console import say
from tests.runs.command import fashion_ml
from tests.runs.tracking_server import Server, assert_stored_once, begin, check_outage, points, wait_for_steps


def test_a_minute_without_the_server_costs_no_time_and_no_point(server: Server, tmp_path: Path):
    longest = check_outage(server, tmp_path, seconds=60, steps=1000)
    say(f"longest time between two steps: {longest:.2f} s")
    assert longest < 1.0


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
