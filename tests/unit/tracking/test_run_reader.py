"""The reader of a page sees every run once, and afterwards what has changed, in a store of 1,000 runs within a blink."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from fashion_ml.runs.leaders import PARAMS, is_wanted, overview
from fashion_ml.runtime.process_id import own_process
from fashion_ml.tracking import run_reader
from fashion_ml.tracking.run_reader import RunReader, RunRow, row_of

GAIN = "eval/gain_weighted_total_loss"


@pytest.fixture
def client(workdir: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{workdir / 'mlflow.db'}")


@pytest.fixture
def reader(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> RunReader:
    """One that asks for changes each time, as it does of large stores."""
    monkeypatch.setattr(run_reader, "_FEW", 0)
    monkeypatch.setattr(run_reader, "_AGAIN_SECONDS", 0.0)
    return begun(client)


def begun(client: MlflowClient) -> RunReader:
    one = RunReader(client, lambda run: row_of(run, is_wanted, PARAMS))
    one.start()
    assert one.wait(60)
    return one


def made(client: MlflowClient, name: str, parent: str = "", **tags: str) -> str:
    given = {**tags, **({"mlflow.parentRunId": parent} if parent else {})}
    return str(client.create_run("0", run_name=name, tags=given).info.run_id)


def found(reader: RunReader) -> dict[str, RunRow]:
    rows, whole = reader.rows()
    assert whole
    assert not reader.problem
    return {row.name: row for row in rows}


def test_the_page_is_made_of_trainings_answers_and_evaluations_that_stand_alone(client: MlflowClient):
    training = made(client, "training", kind="train_lora")
    made(client, "evaluation of it", training, kind="evaluation", algorithm="lora")
    made(client, "recipe", kind="recipe")
    for kind in ("suite", "sweep", "comparison"):
        made(client, kind, kind=kind)
    made(client, "images", kind="evaluation", algorithm="images")
    made(client, "images of it", training, kind="evaluation", algorithm="images")
    made(client, "file", kind="evaluation", algorithm="lora", source="file")
    made(client, "of somebody else")
    assert set(found(begun(client))) == {"training", "suite", "sweep", "comparison", "images", "file"}


def test_a_run_that_begins_ends_is_evaluated_or_deleted_is_seen_at_the_next_look(client: MlflowClient, reader: RunReader):
    assert found(reader) == {}
    training = made(client, "new", kind="train_lora", process=own_process())
    assert found(reader)["new"].status == "RUNNING"
    client.set_terminated(training)
    assert found(reader)["new"].status == "FINISHED"
    evaluation = made(client, "evaluation", training, kind="evaluation")
    client.log_metric(training, GAIN, 0.25)
    client.set_terminated(evaluation)
    assert found(reader)["new"].metrics == {GAIN: 0.25}
    running = made(client, "gone", kind="train_lora", process=own_process())
    assert "gone" in found(reader)
    client.delete_run(running)
    assert "gone" not in found(reader)


def test_a_run_whose_process_has_ended_without_ending_it_is_not_running(client: MlflowClient):
    made(client, "dead", kind="train_lora", process=f"{own_process().partition('/')[0]}/1/0.0")
    assert found(begun(client))["dead"].status == "KILLED"


def test_a_store_that_is_away_leaves_what_was_read_and_the_reason(client: MlflowClient, reader: RunReader):
    made(client, "there", kind="train_lora")
    assert "there" in found(reader)

    class Away:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            raise OSError("the disk is gone")

    reader._client = Away()
    rows, _ = reader.rows()
    assert [row.name for row in rows] == ["there"]
    assert reader.problem == "the disk is gone"


def filled(path: Path, runs: int) -> None:
    """Trainings with some of what an evaluation leaves (60 metrics, 30 params, 20 tags each), in one write."""
    tags = {"kind": "train_lora", "eval.fingerprint": "a" * 64, "eval.verdict": "better", "mlflow.note.content": "x" * 1300}
    tags |= {f"tag.{number}": "value" for number in range(16)}
    names = [GAIN, f"{GAIN}_low", f"{GAIN}_high", *(f"eval/other_{number}" for number in range(57))]
    with closing(sqlite3.connect(path)) as store:
        for number in range(runs):
            run_id = uuid.UUID(int=number + 1).hex
            store.execute(
                "INSERT INTO runs (run_uuid, name, source_type, status, start_time, end_time, lifecycle_stage, experiment_id, artifact_uri,"
                " user_id) VALUES (?, ?, 'LOCAL', 'FINISHED', ?, ?, 'active', 0, ?, 'me')",
                (run_id, f"run {number}", number, number, f"/nowhere/{run_id}"),
            )
            store.executemany(
                "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", [(*one, run_id) for one in tags.items()]
            )
            params = [(f"network.param_{index}", "1", run_id) for index in range(30)]
            store.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", params)
            values = [(name, number / 1e5, 1, run_id, 0, 0) for name in names]
            store.executemany(
                "INSERT INTO latest_metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, ?)", values
            )
        store.commit()


def test_a_thousand_runs_are_shown_from_the_first_moment_and_whole_without_a_wait(client: MlflowClient, workdir: Path):
    filled(workdir / "mlflow.db", 1000)
    reader = RunReader(client, lambda run: row_of(run, is_wanted, PARAMS))
    begin = time.monotonic()
    reader.start()
    while not reader.rows()[0]:
        assert time.monotonic() - begin < 60, reader.problem
        time.sleep(0.01)
    assert reader.wait(240)
    time.sleep(run_reader._AGAIN_SECONDS + 0.1)  # what follows asks the store for changes
    begin = time.monotonic()
    rows, whole = reader.rows()
    told = json.dumps(overview(rows, reader.names, "en", most=40))
    seconds = time.monotonic() - begin
    assert whole
    assert len(rows) == 1000
    assert json.loads(told)["experiments"][0]["groups"][0]["runs"][0]["name"] == "run 999"
    assert seconds < 2, f"{seconds:.1f} s"
