"""Another writer holds the sqlite store while a training runs: it goes on, and nothing of it is lost."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tests.full.kill_scenarios import LORA, pictures
from tests.runs.forked import Forked, forked
from tests.runs.run_tree import tree


def check_locked(workdir: Path, seconds: float) -> None:
    """Lock the store from the first points of a training on for so long; what it cannot send by its end is sent by sync."""
    uri, spool = f"sqlite:///{workdir / 'mlflow.db'}", workdir / "out" / "spool" / "operations.jsonl"
    pictures(workdir)
    training = Forked(*LORA, cwd=workdir, uri=uri)
    while not (spool.exists() and '"total_loss"' in spool.read_text()):
        assert not training.ends_within(0.02), training.said()
    with closing(sqlite3.connect(workdir / "mlflow.db", timeout=60, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        end = time.monotonic() + seconds
        while not (workdir / "out" / "lora.safetensors").exists():
            assert not training.ends_within(0.02), training.said()
        training.ends_within(end - time.monotonic())
        other.execute("ROLLBACK")
    assert training.wait() == 0, training.said()
    code, said = forked("sync", "out", cwd=workdir, uri=uri)
    assert code == 0, said
    _assert_once(MlflowClient(uri))


def _assert_once(client: MlflowClient) -> None:
    there = [one.experiment_id for one in client.search_experiments()]
    (run,) = client.search_runs(there, "tags.kind = 'train_lora'")
    found = tree(client, run.info.run_id)
    assert [step for step, _ in found["points"]["total_loss"]] == [1, 2, 3]
    (evaluation,) = found["below"]
    assert (
        run.data.metrics["eval/weighted_total_loss"]
        == client.get_run(run.data.tags["eval.run_id"]).data.metrics["weighted_total_loss"]
    )
    assert {one["status"] for one in _all(found)} == {"FINISHED"}
    assert "report.html" in evaluation["artifacts"]
    assert len(client.search_runs(there)) == len(_all(found))


def _all(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [found, *(one for below in found["below"] for one in _all(below))]
