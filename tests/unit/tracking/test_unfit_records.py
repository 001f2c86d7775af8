"""Records that no store takes, though they are operations in their form: each goes aside alone and at once, and no store is blamed for it."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_metric

from fashion_ml.tracking.operation_shape import is_operation, parted
from fashion_ml.tracking.sender import Sender
from fashion_ml.tracking.set_aside import FILE
from fashion_ml.tracking.spool import Operation, RetryLater, read_operations
from fashion_ml.tracking.spooled_client import SpooledClient, send_rest
from tests.unit.tracking.half_store import TEXT, Store, metric, refused

DATASET = {"name": "n", "digest": "d", "source_type": "s", "source": "x", "schema": None, "profile": None}
LAST = 253_402_300_799_999
"""ms of the last moment of the year 9999."""
GOOD_POINTS: list[Any] = [
    ["m", 1.0, 0, 0],
    ["m" * 250, 1, LAST, 2**63 - 1],
    ["a b/c.d-e:f_1", 1, 0, 0],
    ["m", 10**30, 1, -(2**63)],
    ["m", float("nan"), 1, 1],
    ["é", float("-inf"), 1, 1],
]
BAD_POINTS: list[Any] = [
    ["z", 1.0, 1, 10**30],
    ["z", 1.0, 2**63, 1],
    ["z", 1.0, LAST + 1, 1],
    ["z", 1.0, -1, 1],
    *([name, 1.0, 1, 1] for name in ("", ".", "..", "a/../b", "/a", "a/", "a//b", "a(b", 5, None, [])),
    ["z", True, 1, 1],
    ["z", 1.0, 1, -(2**63) - 1],
    ["z", 10**400, 1, 1],
    ["z", "1", 1, 1],
    ["z", 1.0, 1.5, 1],
    ["z" * 251, 1.0, 1, 1],
    ["\ud800", 1.0, 1, 1],
    ["z", 1.0, 1],
    5,
]
GOOD_PLACES = ["a", "a/b.txt", "a b", "é", ".hidden", "a/..b", "a" * 255, "/".join(["a" * 99] * 10)]
BAD_PLACES = [
    *("../../../../esc.txt", "..", "a/../b", "/abs", "a\\b", "a\0b", "a//b", "./a", "a/", ".", "..x"),
    *("a" * 256, "é" * 128, "/".join(["a" * 99] * 11), "\ud800", "file:///x"),
]


def batch(*points: Any, **more: Any) -> Operation:
    return {"do": "batch", "run": "r", "metrics": list(points), **more}


def places(place: str) -> list[Operation]:
    """Every operation that puts something there."""
    file = {"do": "file", "run": "r", "path": "good.txt", "folder": place}
    return [file, {**file, "do": "folder"}, {"do": "text", "run": "r", "text": "x", "artifact": place}]


def test_the_good_points_params_and_tags_of_a_record_are_parted_from_the_others():
    for good in GOOD_POINTS:
        assert is_operation(batch(good)), good
    for bad in BAD_POINTS:
        assert parted(batch(bad)) == (None, batch(bad))
        assert parted(batch(GOOD_POINTS[0], bad, GOOD_POINTS[1])) == (batch(*GOOD_POINTS[:2]), batch(bad))
    pairs = {"params": [["a", "b"], ["a" * 251, "b"], ["", "b"]], "tags": [["a", "\ud800"], ["a", "b"]]}
    left, bad = parted({"do": "batch", "run": "r", **pairs})
    assert left == {"do": "batch", "run": "r", "params": [["a", "b"]], "tags": [["a", "b"]]}
    assert bad == {"do": "batch", "run": "r", "params": [["a" * 251, "b"], ["", "b"]], "tags": [["a", "\ud800"]]}


def test_the_names_that_are_set_aside_are_those_that_mlflow_does_not_take():
    draw, taken = random.Random(0), Counter[bool]()
    for _ in range(3000):
        point = ["".join(draw.choice("ab/.. -:_(\né é\\") for _ in range(draw.randint(0, 5))), 1.0, 1, 1]
        try:
            _validate_metric(*point)
            takes = True
        except MlflowException:
            takes = False
        taken[takes] += 1
        assert is_operation(batch(point)) == takes, point
    assert min(taken.values()) > 500


@pytest.mark.parametrize(
    "record",
    [
        {"do": "end", "run": "r", "status": "KILLED", "end": 10**30},
        {"do": "end", "run": "r", "status": "KILLED", "end": 2**63 - 1},
        {"do": "create", "run": "r", "experiment": "0", "name": "x", "tags": {}, "start": 10**30},
        {"do": "create", "run": "r", "experiment": "1" * 40, "name": "x", "tags": {}, "start": 1},
        {"do": "create", "run": "r", "experiment": "0", "name": "\ud800", "tags": {}, "start": 1},
        {"do": "text", "run": "r", "text": "\ud800", "artifact": "q.txt"},
        {"do": "text", "run": "r", "text": "x", "artifact": ""},
        {"do": "file", "run": "r", "path": "a\0b", "folder": None},
        {"do": "file", "run": "r", "path": "a" * 300, "folder": None},
        {"do": "folder", "run": "r", "path": "a/" * 2100, "folder": None},
        {"do": "inputs", "run": "r", "datasets": {}},
        {"do": "inputs", "run": "r", "datasets": [{"dataset": {"nope": 1}, "tags": []}]},
        {"do": "inputs", "run": "r", "datasets": [{"dataset": {**DATASET, "digest": None}, "tags": []}]},
        {"do": "inputs", "run": "r", "datasets": [{"dataset": {**DATASET, "source": "\ud800"}, "tags": []}]},
        {"do": "batch", "run": "\ud800", "tags": [["a", "b"]]},
        {"do": "delete", "run": "r", "more": json.loads("[" * 50 + "]" * 50)},
        *(one for place in BAD_PLACES for one in places(place)),
    ],
)
def test_what_no_store_takes_is_no_operation(record: Operation):
    assert not is_operation(record)
    assert parted(record) == (None, record)


def test_what_a_training_writes_is_an_operation(tmp_path: Path):
    for place in GOOD_PLACES:
        assert all(map(is_operation, places(place))), place
    file = {"do": "file", "run": "r", "path": "name of bytes \udcff.png", "folder": None}
    assert is_operation(file)
    assert is_operation({**file, "do": "folder", "folder": "", "names": ["a", "b"]})
    assert is_operation({"do": "inputs", "run": "r", "datasets": [{"dataset": DATASET, "tags": [["a", "b"]]}]})
    chosen = {"named": "x", "chosen": ["a"], "id": None}
    assert is_operation({"do": "create", "run": "r", "experiment": "", "name": "x", "tags": {}, "start": 1, **chosen})


@pytest.fixture
def real(tmp_path: Path) -> tuple[MlflowClient, str, Path]:
    """A store of sqlite, a run in it and its folder, with a file and an empty outbox."""
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run_id = client.create_run(client.create_experiment("e", artifact_location=f"{tmp_path}/artifacts")).info.run_id
    folder = tmp_path / "run"
    (folder / "spool").mkdir(parents=True)
    (folder / "good.txt").write_text("good", encoding="utf-8")
    return client, run_id, folder


def sent(real: tuple[MlflowClient, str, Path], records: list[Operation], caplog: pytest.LogCaptureFixture) -> bool:
    """Whether everything has reached the store; it takes a few seconds, and the store is blamed for nothing."""
    client, run_id, folder = real
    lines = [json.dumps({**one, "run": run_id if one["run"] == "r" else one["run"]}) + "\n" for one in records]
    with (folder / "spool" / "operations.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(lines)
    caplog.set_level("INFO", "fashion_ml")
    began = time.monotonic()
    done = send_rest(folder, run_id, client, "The store", 20)
    assert time.monotonic() - began < 8
    assert "does not answer" not in caplog.text
    return done


def aside(folder: Path) -> list[tuple[str, Operation]]:
    """What was set aside, and why."""
    lines = (folder / "spool" / FILE).read_text(encoding="utf-8").splitlines()
    return [(found["why"], json.loads(found["record"])) for found in map(json.loads, lines)]


def test_one_bad_point_takes_no_good_one_with_it(real: tuple[MlflowClient, str, Path], caplog: pytest.LogCaptureFixture):
    client, run_id, folder = real
    together = [batch(point) for point in BAD_POINTS] + [batch(["beside", 2.0, 1, 7], BAD_POINTS[0])]
    assert sent(real, [*together, batch(["goodpoint", 1.0, 1, 7])], caplog)
    assert [point.step for key in ("goodpoint", "beside") for point in client.get_metric_history(run_id, key)] == [7, 7]
    kept = aside(folder)
    assert ('no store takes ["z", 1.0, 1, 1000000000000000000000000000000] among metrics') in [why for why, _ in kept]
    assert [one["metrics"] for _, one in kept] == [[point] for point in BAD_POINTS]
    assert refused(folder / "spool") == []
    assert [point for one in read_operations(folder / "spool" / "operations.jsonl") for point in one["metrics"]] == [
        ["beside", 2.0, 1, 7],
        ["goodpoint", 1.0, 1, 7],
    ]


def test_points_that_an_earlier_version_kept_together_with_a_bad_one_are_sent(
    real: tuple[MlflowClient, str, Path], caplog: pytest.LogCaptureFixture
):
    client, run_id, folder = real
    kept = {"operation": {**batch(BAD_POINTS[0], ["goodpoint", 1.0, 1, 7]), "run": run_id}, "why": "too large"}
    nested = '{"operation":' + "[" * 200_000 + "]" * 200_000 + "}"
    (folder / "spool" / "refused.jsonl").write_text(f"{json.dumps(kept)}\n{nested}\n", encoding="utf-8")
    assert sent(real, [], caplog)
    assert [point.step for point in client.get_metric_history(run_id, "goodpoint")] == [7]
    assert [one["metrics"] for _, one in aside(folder)] == [[BAD_POINTS[0]]]
    assert not (folder / "spool" / "refused.jsonl").exists()


def test_places_outside_the_artifacts_go_aside_at_once(real: tuple[MlflowClient, str, Path], caplog: pytest.LogCaptureFixture):
    client, run_id, folder = real
    bad = [one for place in BAD_PLACES for one in places(place)]
    good = [one for place in GOOD_PLACES for one in places(place) if one["do"] == "file"]
    many = [batch(["m", 1.0, 1, step]) for step in range(3)]
    assert sent(real, [*bad * 20, *good, many[0], *bad, *many[1:]], caplog)
    assert len(client.get_metric_history(run_id, "m")) == 3
    below = folder.parent / "artifacts" / run_id / "artifacts"
    there = [path.parent.relative_to(below).as_posix() for path in below.rglob("good.txt")]
    assert sorted(there) == sorted(GOOD_PLACES)
    whys = [why for why, _ in aside(folder)]
    assert len(whys) == len(bad)
    assert "'../../../../esc.txt' is no place below a run's artifacts" in whys
    assert not (folder / "spool" / "refused.jsonl").exists()


def test_a_run_that_the_store_does_not_know_is_none_of_the_folders(
    real: tuple[MlflowClient, str, Path], caplog: pytest.LogCaptureFixture
):
    client, run_id, folder = real
    unknown = ["0123", "a/b", "x" * 400, "", *(f"{number:032x}" for number in range(200))]
    records = [{"do": "batch", "run": run, "tags": [["a", str(number)]]} for number in range(20) for run in unknown]
    assert sent(real, [*records, batch(["m", 1.0, 1, 1])], caplog)
    assert len(client.get_metric_history(run_id, "m")) == 1
    assert {why for why, _ in aside(folder)} == {f"run {run} is not the one of this folder, nor below it" for run in unknown}
    assert not (folder / "spool" / "refused.jsonl").exists()


class Lost(Store):
    """Says of every run, or of those that are pending, that it has none."""

    pending_only = False

    def get_run(self, run_id: str) -> Any:
        if not self.pending_only or run_id.startswith("pending-"):
            raise MlflowException(f"Run with id={run_id} not found", error_code=1001)  # RESOURCE_DOES_NOT_EXIST
        return super().get_run(run_id)


@pytest.mark.parametrize("pending", [False, True])
def test_what_a_store_says_not_to_have_is_kept_where_it_may_come_back(tmp_path: Path, pending: bool):
    """A store that lacks the folder's own run, too, is another one; a run that waits to be made is in none."""
    store, run = Lost(), "pending-" + "0" * 32 if pending else "a"
    store.pending_only = pending
    given = {**metric("m"), "run": run}
    Sender(store, tmp_path / "spool", "r")([given], {})
    assert refused(tmp_path / "spool") == [given]
    assert not (tmp_path / "spool" / FILE).exists()


class Sick(Store):
    """Answers with an error of its own to some values, as a server that says 500 to these alone."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        self.requests += 1
        if any(metric.key.startswith("sick") for metric in metrics):
            raise MlflowException("Internal error")
        super().log_batch(run_id, metrics, params, tags)


def test_points_that_fail_for_ever_are_parted_from_those_that_do_not(tmp_path: Path):
    store, tries = Sick(), 0
    send, sick = Sender(store, tmp_path / "spool", "r"), metric("sick")
    given = (
        [metric(f"a{number}") for number in range(400)]
        + [sick, metric("bad")]
        + [metric(f"b{number}") for number in range(400)]
    )
    while True:
        tries += 1
        try:
            send(given, {})
            break
        except RetryLater:
            assert tries < 20
    assert sorted(set(store.metrics)) == sorted([f"{letter}{number}" for letter in "ab" for number in range(400)])
    assert refused(tmp_path / "spool") == [{**sick, "metrics": [*sick["metrics"], *metric("bad")["metrics"]]}]
    assert store.requests < 100


def test_what_failed_for_ever_holds_up_nothing_behind_it_at_a_later_sync(tmp_path: Path):
    store, send = Sick(), Sender(Sick(), tmp_path / "spool", "r")
    kept = [
        TEXT,
        {**metric("sick"), "metrics": [*metric("sick")["metrics"], *metric("good")["metrics"]]},
        TEXT,
        metric("after"),
    ]
    store.full = True
    (tmp_path / "spool").mkdir()
    lines = [json.dumps({"operation": one, "why": "Internal error"}) + "\n" for one in kept]
    (tmp_path / "spool" / "refused.jsonl").write_text("".join(lines), encoding="utf-8")
    send = Sender(store, tmp_path / "spool", "r")
    assert not send.again({})
    assert store.metrics == ["good", "after"]
    assert refused(tmp_path / "spool") == [TEXT, metric("sick"), TEXT]


def test_names_that_a_damaged_note_gives_are_no_code(tmp_path: Path):
    """A name takes the place of a pending id in a record's text."""
    pending, kept = "pending-" + "0" * 32, SimpleNamespace(ran=[])
    store = Store()
    store.get_run = lambda run: (kept.ran.append(run), Store().get_run("r"))[1]  # type: ignore[method-assign, func-returns-value]
    Sender(store, tmp_path / "spool", "r")([{**metric("m"), "run": pending}], {pending: 'a", "b\\'})
    assert kept.ran == ['a", "b\\']
    assert (store.metrics, len(aside(tmp_path))) == ([], 1)


def test_a_client_sends_what_is_logged_beside_what_is_set_aside(real: tuple[MlflowClient, str, Path]):
    """In a training too: the store is asked for each good value."""
    from mlflow.entities import Metric, Param

    client, run_id, folder = real
    spooled = SpooledClient(client, folder, "The store", run_id)
    spooled.log_batch(run_id, [Metric("z", 1.0, 1, 10**30), Metric("good", 1.0, 1, 7)], [Param("a", "\ud800"), Param("b", "c")])
    assert spooled.close(10)
    run = client.get_run(run_id)
    assert (run.data.metrics, run.data.params) == ({"good": 1.0}, {"b": "c"})
