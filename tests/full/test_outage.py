"""The tracking server is gone for a whole minute in the middle of a training, stays away, or a training is killed while it is gone."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from mlflow import MlflowClient

from fashion_ml.runtime.console import say
from tests.runs.command import fashion_ml, once
from tests.runs.tracking_server import (
    LONG,
    PASSWORD,
    Server,
    assert_stored_once,
    begin,
    check_outage,
    points,
    steps_spooled,
    wait_for_steps,
)


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


def test_a_server_that_stays_away_is_told_and_sync_sends_the_rest(server: Server, workdir: Path):
    """With an evaluation, whose runs do not exist yet for anyone but the spool."""
    more = ("--steps", "40", "--set", "evaluation.max_references=2", "--set", "evaluation.num_inference_steps=1")
    few = (*LONG, *more, "--set", "evaluation.images_per_reference=1", "--output-dir", "out")
    with once(lambda: steps_spooled(workdir) >= 10, server.kill):
        trained = fashion_ml("train", "lora", *few, cwd=workdir, uri=server.uri)
    assert trained.returncode == 0, trained.stderr
    said = trained.stderr + trained.stdout
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
