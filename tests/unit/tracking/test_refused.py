"""What metrics cost that a store does not take: questions and bytes, counted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from fashion_ml.tracking.refused import FILE
from fashion_ml.tracking.sender import Sender
from tests.unit.tracking.half_store import TEXT, Store, metric, refused


class Asked(Store):
    """Counts what it is asked, and lacks a run where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.requests, self.points, self.lacks = 0, 0, False

    def get_run(self, run_id: str) -> Any:
        self.requests += 1
        if self.lacks:
            raise MlflowException("no such run", error_code=1001)  # RESOURCE_DOES_NOT_EXIST
        return super().get_run(run_id)

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        self.requests += 1
        self.points += len(metrics)
        if self.lacks:
            raise MlflowException("no such run", error_code=1001)
        super().log_batch(run_id, metrics, params, tags)


def written_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all writes from now on."""
    sizes, write = list[int](), os.write
    monkeypatch.setattr(os, "write", lambda file, content: sizes.append(len(content)) or write(file, content))
    return sizes


def points(key: str, count: int) -> list[list[Any]]:
    return [[key, 1.0, 0, step] for step in range(count)]


def test_metrics_of_a_run_that_the_store_lacks_are_asked_for_once_and_written_down_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store, sizes = Asked(), written_bytes(monkeypatch)
    store.lacks = True
    given = {"do": "batch", "run": "r", "metrics": points("m", 20_000)}
    Sender(store, tmp_path / "spool", "r")([given, TEXT], {})
    assert (store.requests, store.points) == (2, 1000)  # one request, and whether the run is there
    kept = refused(tmp_path / "spool")
    assert [point for one in kept for point in one.get("metrics", ())] == given["metrics"]
    assert kept[-1] == TEXT
    assert sum(sizes) < 2 * len(json.dumps(given))
    store.lacks = False
    assert Sender(store, tmp_path / "spool", "r").again({})
    assert len(store.metrics) == 20_000
    assert not (tmp_path / "spool" / FILE).exists()


def test_a_key_that_is_never_taken_is_soon_asked_for_as_a_whole(tmp_path: Path):
    """Half of 10,000 points are of a key that the store refuses: halving alone would ask 10,000 times."""
    store = Asked()
    mixed = [point for step in range(5000) for point in (["good", 1.0, 0, step], ["bad", 1.0, 0, step])]
    Sender(store, tmp_path / "spool", "r")([{"do": "batch", "run": "r", "metrics": mixed}], {})
    assert len(store.metrics) == 5000
    assert [point for one in refused(tmp_path / "spool") for point in one["metrics"]] == [
        one for one in mixed if one[0] == "bad"
    ]
    assert store.requests < 100


def test_asking_for_points_one_by_one_has_an_end_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every second value is refused, whatever its key."""

    class Picky(Asked):
        def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
            self.requests += 1
            if any(metric.step % 2 for metric in metrics):
                raise MlflowException.invalid_parameter_value("odd")
            self.metrics += [metric.key for metric in metrics]

    monkeypatch.setattr("fashion_ml.tracking.dividing._MOST", 50)
    store, given = Picky(), points("m", 4000)
    Sender(store, tmp_path / "spool", "r")([{"do": "batch", "run": "r", "metrics": given}], {})
    kept = [point for one in refused(tmp_path / "spool") for point in one["metrics"]]
    assert len(store.metrics) + len(kept) == 4000
    assert store.requests < 300
    before = len(store.metrics)
    assert not Sender(store, tmp_path / "spool", "r").again({})  # a later sync goes on
    assert len(store.metrics) > before


def test_a_disk_that_takes_half_a_refused_record_has_the_whole_one_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store, write = Asked(), os.write
    send = Sender(store, tmp_path / "spool", "r")
    send([metric("bad")], {})

    def full(file: int, content: bytes) -> int:
        if len(content) < 20:
            raise OSError(28, "No space left on device")
        return write(file, content[: len(content) // 2])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        send([{**metric("bad"), "metrics": points("bad", 3)}], {})
    monkeypatch.setattr(os, "write", write)
    assert refused(tmp_path / "spool") == [metric("bad")]
    send([{**metric("bad"), "metrics": points("bad", 3)}], {})
    assert [len(one["metrics"]) for one in refused(tmp_path / "spool")] == [1, 3]
