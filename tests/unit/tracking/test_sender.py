"""What a store does not take: kept, told, tried again, and in nobody's way."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from mlflow.exceptions import MlflowException

from fashion_ml.tracking.sender import Sender
from fashion_ml.tracking.set_aside import FILE
from fashion_ml.tracking.spool import Operation, RetryLater
from tests.unit.tracking.half_store import TEXT, Store, metric, refused


def test_one_metric_that_is_refused_costs_no_other(tmp_path: Path):
    store = Store()
    Sender(store, tmp_path / "spool", "r")(
        [metric(f"m{n}") for n in range(10)] + [metric("bad")] + [metric(f"n{n}") for n in range(10)], {}
    )
    assert sorted(store.metrics) == sorted([f"{letter}{n}" for letter in "mn" for n in range(10)])
    assert refused(tmp_path / "spool") == [metric("bad")]


def test_what_fails_for_ever_is_set_aside_and_sent_by_a_later_sync(tmp_path: Path):
    store = Store()
    store.full = True
    send, why = Sender(store, tmp_path / "spool", "r"), list[str]()
    while "after" not in store.metrics:
        try:
            send([metric("before"), TEXT, metric("after")], {})
        except RetryLater as error:
            why.append(str(error))
            if len(why) > 20:
                raise
    assert {"No space left" in text for text in why} == {True}
    assert len(why) >= 3  # a moment's trouble loses its place in the order, but nothing more
    assert "after" in store.metrics
    assert refused(tmp_path / "spool") == [TEXT]
    assert not send.again({})
    assert refused(tmp_path / "spool") == [TEXT]
    store.full = False
    assert send.again({})
    assert store.texts == ["a report"]
    assert refused(tmp_path / "spool") == []


@pytest.mark.parametrize("do", ["file", "folder"])
def test_a_file_that_cannot_be_read_here_is_no_fault_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, do: str
):
    caplog.set_level("INFO", "fashion_ml")
    sent, locked = list[str](), {"report.html"}
    (tmp_path / "out").mkdir()
    for name in ("report.html", "z.html"):
        (tmp_path / "out" / name).write_text("a report")
    open_file = os.open

    def guarded(path: Any, *args: Any, **more: Any) -> Any:
        if Path(path).name in locked:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return open_file(path, *args, **more)

    monkeypatch.setattr(os, "open", guarded)
    store = Store()
    store.log_artifact = store.log_artifacts = lambda run, path, folder: sent.append(path)  # type: ignore[attr-defined]
    operation = {"do": do, "run": "r", "path": "out/report.html" if do == "file" else "out", "folder": "a"}
    send = Sender(store, tmp_path / "spool", "r")
    send([operation, metric("after")], {})  # at once: nothing is asked of the store, and nothing waits
    assert (sent, store.metrics, refused(tmp_path / "spool")) == ([], ["after"], [operation])
    assert "report.html cannot be read (Permission denied), which is no fault of the tracking store" in caplog.text
    caplog.clear()
    assert not send.again({})
    assert "1 of what was logged cannot be sent (the first:" in caplog.text
    assert "refuse" not in caplog.text.replace("refused.jsonl", "")
    locked.clear()
    assert send.again({})
    assert sent == [str(tmp_path / operation["path"])]


def test_a_folder_that_cannot_be_read_here_is_not_sent_as_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "fashion_ml")
    sent, locked, scandir = list[str](), {"grids"}, os.scandir
    (tmp_path / "out" / "grids").mkdir(parents=True)
    (tmp_path / "out" / "grids" / "a.png").write_text("a grid")

    def guarded(path: Any = ".") -> Any:
        if Path(path).name in locked:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    store = Store()
    store.log_artifacts = lambda run, path, folder: sent.append(path)  # type: ignore[attr-defined]
    operation = {"do": "folder", "run": "r", "path": "out", "folder": "a"}
    send = Sender(store, tmp_path / "spool", "r")
    send([operation, metric("after")], {})
    assert (sent, store.metrics, refused(tmp_path / "spool")) == ([], ["after"], [operation])
    assert "grids cannot be read (Permission denied), which is no fault of the tracking store" in caplog.text
    locked.clear()
    assert send.again({})
    assert sent == [str(tmp_path / "out")]


def test_while_the_store_is_away_nothing_is_set_aside(tmp_path: Path):
    store = Store()
    store.away = True
    send = Sender(store, tmp_path / "spool", "r")
    for _ in range(20):
        with pytest.raises(RetryLater):
            send([metric("one"), TEXT], {})
    assert refused(tmp_path / "spool") == []
    store.away = False
    send([metric("one"), TEXT], {})
    assert (store.metrics, store.texts) == (["one"], ["a report"])


def test_what_was_refused_before_a_failure_is_kept_once(tmp_path: Path):
    store = Store()
    send = Sender(store, tmp_path / "spool", "r")
    store.full = True
    for _ in range(3):
        with pytest.raises(RetryLater):
            send([metric("bad"), TEXT], {})
    assert refused(tmp_path / "spool") == [metric("bad")]


def test_what_came_later_is_not_undone_by_trying_again(tmp_path: Path):
    class Tagged(Store):
        tags: ClassVar[dict[str, str]] = {"verdict": "new"}
        status = "FINISHED"
        refuses = True

        def get_run(self, run_id: str) -> Any:
            info = SimpleNamespace(status=self.status, start_time=0, lifecycle_stage="active")
            return SimpleNamespace(info=info, data=SimpleNamespace(tags=self.tags))

        def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
            if self.refuses:
                raise MlflowException.invalid_parameter_value("no")
            self.tags.update({tag.key: tag.value for tag in tags})

        def set_terminated(self, run_id: str, status: str, end_time: int) -> None:
            if self.refuses:
                raise MlflowException.invalid_parameter_value("no")
            self.status = status

    store = Tagged()
    send = Sender(store, tmp_path / "spool", "r")
    tags = {"do": "batch", "run": "r", "tags": [["verdict", "old"], ["other", "kept"]]}
    send([tags, {"do": "end", "run": "r", "status": "KILLED", "end": 1}], {})
    store.refuses = False
    assert send.again({})
    assert store.tags == {"verdict": "new", "other": "kept"}
    assert store.status == "FINISHED"


def test_two_batches_that_fail_for_ever_hold_nothing_up(tmp_path: Path):
    class Sick(Store):
        def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
            if any(metric.key.startswith("sick") for metric in metrics):
                raise MlflowException("Internal error")  # as a server that answers 500 to these alone
            super().log_batch(run_id, metrics, params, tags)

    store = Sick()
    send = Sender(store, tmp_path / "spool", "r")
    sick = [{"do": "batch", "run": run, "metrics": [["sick", 1.0, 0, step] for step in range(3)]} for run in "ab"]
    for _ in range(30):
        try:
            send([*sick, metric("well")], {})
            break
        except RetryLater:
            continue
    assert store.metrics == ["well"]
    assert refused(tmp_path / "spool") == sick


class Runs(Store):
    """Also makes runs, and finds them by their tags."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Any] = []

    def search_runs(self, experiments: list[str], query: str, max_results: int) -> list[Any]:
        (name, _, wanted) = query.partition(" = ")
        key, value = name.removeprefix("tags.").strip("`"), wanted.strip("'")
        found = [run for run in self.made if run.experiment in experiments and run.tags.get(key) == value]
        return found[:max_results]

    def create_run(self, experiment: str, start_time: int, run_name: str, tags: dict[str, str]) -> Any:
        self._answer()
        info = SimpleNamespace(run_id=f"real{len(self.made)}")
        self.made.append(SimpleNamespace(info=info, experiment=experiment, tags=tags, name=run_name, start=start_time))
        return self.made[-1]


def create(number: int, **tags: str) -> Operation:
    run = f"pending-{number:032x}"
    return {"do": "create", "run": run, "experiment": "7", "name": f"child {number}", "start": 5, "tags": tags}


def test_a_run_that_was_made_before_a_crash_is_found_again_and_not_made_twice(tmp_path: Path):
    """The names, which say that it was made, are lost with the process."""
    store = Runs()
    first, again = dict[str, str](), dict[str, str]()
    Sender(store, tmp_path / "spool", create(1)["run"])([create(1)], first)
    Sender(store, tmp_path / "spool", create(1)["run"])(
        [create(1), create(2, **{"mlflow.parentRunId": create(1)["run"]})], again
    )
    assert first == {create(1)["run"]: "real0"}
    assert again == {create(1)["run"]: "real0", create(2)["run"]: "real1"}
    assert [(run.name, run.start, run.experiment) for run in store.made] == [("child 1", 5, "7"), ("child 2", 5, "7")]


def test_what_is_logged_to_a_pending_run_goes_to_the_real_one_and_a_childs_parent_is_the_real_one(tmp_path: Path):
    store, logged = Runs(), list[str]()
    store.log_batch = lambda run, **_: logged.append(run)  # type: ignore[method-assign, assignment]
    parent, names = create(1)["run"], dict[str, str]()
    values = {"do": "batch", "run": parent, "metrics": [["m", 1.0, 0, 0]]}
    Sender(store, tmp_path / "spool", parent)([create(1), values, create(2, **{"mlflow.parentRunId": parent})], names)
    assert logged == ["real0"]
    assert store.made[1].tags["mlflow.parentRunId"] == "real0"


def test_a_pipe_among_the_files_is_left_out_and_not_waited_for(tmp_path: Path):
    (tmp_path / "images").mkdir()
    os.mkfifo(tmp_path / "images" / "a.png")
    os.mkfifo(tmp_path / "b.png")
    store, given = Store(), {"do": "file", "run": "r", "path": "b.png", "folder": None}
    Sender(store, tmp_path / "spool", "r")([given, {**given, "do": "folder", "path": "images"}], {})
    assert len(aside(tmp_path)) == 2


def test_a_thousand_metrics_go_in_one_request_and_the_next_one_in_another(tmp_path: Path):
    sizes: list[int] = []

    class Counting(Store):
        def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
            sizes.append(len(metrics))

    Sender(Counting(), tmp_path / "spool", "r")([metric(f"m{number}") for number in range(1001)], {})
    assert sizes == [1000, 1]


def aside(folder: Path) -> list[str]:
    """Why records were set aside."""
    path = folder / "spool" / FILE
    return [json.loads(line)["why"] for line in path.read_text().splitlines()] if path.exists() else []


def test_only_the_folders_own_run_and_those_below_it_are_written_to(tmp_path: Path):
    """A spool's file may come from anywhere: it names other runs of the store too."""
    store, names = Runs(), dict[str, str]()
    others = [{**metric(f"m{number}"), "run": run} for number, run in enumerate(["r", "a", "elsewhere"])]
    below, root = create(1, **{"mlflow.parentRunId": "a"}), create(2)
    stranger = create(3, **{"mlflow.parentRunId": "elsewhere"})
    Sender(store, tmp_path / "spool", "r")([*others, below, root, stranger, {**metric("m3"), "run": below["run"]}], names)
    assert store.metrics == ["m0", "m1", "m3"]
    assert [run.name for run in store.made] == ["child 1"]
    assert len(aside(tmp_path)) == 3
    assert set(aside(tmp_path)) == {
        f"run {run} is not the one of this folder, nor below it" for run in ("elsewhere", root["run"], stranger["run"])
    }


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "link", "folder", "spool/../../secret"])
def test_only_files_below_the_folder_are_sent(tmp_path: Path, path: str):
    folder, sent = tmp_path / "run", list[str]()
    (tmp_path / "secret").write_text("secret")
    (folder / "spool").mkdir(parents=True)
    (folder / "folder").mkdir()
    (folder / "good.txt").write_text("good")
    for link in (folder / "link", folder / "folder" / "link"):
        link.symlink_to(tmp_path / "secret")
    store = Store()
    store.log_artifact = lambda run, path, folder: sent.append(path)  # type: ignore[attr-defined]
    store.log_artifacts = store.log_artifact  # type: ignore[attr-defined]
    do = "folder" if path == "folder" else "file"
    wanted = [
        {"do": do, "run": "r", "path": path, "folder": None},
        {"do": "file", "run": "r", "path": "good.txt", "folder": None},
    ]
    Sender(store, folder / "spool", "r")(wanted, {})
    assert sent == [str(folder / "good.txt")]
    assert aside(folder) == [f"{path} is not below the run's folder"]


NONSENSE: list[Any] = [
    {},
    {"do": "batch"},
    {"do": "batch", "run": 5},
    {"do": "batch", "run": "r", "metrics": 5},
    {"do": "batch", "run": "r", "metrics": [["m", "x", 0, 0]]},
    {"do": "batch", "run": "r", "tags": [["a"]]},
    {"do": "file", "run": "r", "path": None, "folder": None},
    {"do": "create", "run": "r", "experiment": "0", "name": "x", "tags": 3, "start": 0},
    {"do": "end", "run": "r", "status": "GONE", "end": 1},
    {"do": ["batch"], "run": "r"},
    {"do": "format the disk", "run": "r"},
]


def test_records_that_are_no_operations_go_aside_and_the_rest_is_sent(tmp_path: Path):
    store = Store()
    Sender(store, tmp_path / "spool", "r")([metric("first"), *NONSENSE, metric("last")], {})
    assert store.metrics == ["first", "last"]
    points = ['no store takes ["m", "x", 0, 0] among metrics', 'no store takes ["a"] among tags']
    assert aside(tmp_path) == [*["it is no operation"] * 4, *points, *["it is no operation"] * (len(NONSENSE) - 6)]


def test_a_picture_and_its_small_one_are_one_record_so_that_a_kill_leaves_both_or_none(tmp_path: Path):
    from PIL import Image

    from fashion_ml.tracking.mlflow_private import key_and_step
    from fashion_ml.tracking.offline_client import OfflineClient, pending_id

    client, run_id = OfflineClient(tmp_path), pending_id()
    client.log_image(run_id, Image.new("RGB", (8, 8)), "sample_0", 3)
    assert [key_and_step(Path(one.path).name) for one in client.list_artifacts(run_id, "images")] == [("sample_0", 3)] * 2
    client.close(0)
    written = [json.loads(line) for line in (tmp_path / "spool" / "operations.jsonl").read_text().splitlines()]
    assert [one["do"] for one in written] == ["folder", "batch"]
    sent, store = list[str](), Store()
    store.log_artifacts = lambda run, path, folder: sent.extend(sorted(one.suffix for one in Path(path).iterdir()))  # type: ignore[attr-defined]
    Sender(store, tmp_path / "spool", run_id)(written[:1], {})
    assert sent == [".png", ".webp"]
