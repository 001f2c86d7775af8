"""Files of the outbox that cannot be written or moved: said at once, of this folder, and never of the store."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fashion_ml.errors import InputError
from fashion_ml.runtime.folder_lock import in_turn
from fashion_ml.tracking.queries import adding_to_ended
from fashion_ml.tracking.refused import FILE
from fashion_ml.tracking.run import TrackedRun
from fashion_ml.tracking.sender import Sender
from fashion_ml.tracking.spool import Spool
from fashion_ml.tracking.spooled_client import SpooledClient
from tests.unit.tracking.half_store import TEXT, Store, metric


def cannot_be_moved(name: str) -> Callable[[Path, Path], Path]:
    """`Path.replace` where a file of that name is one that may not be moved, as one with the attribute `i`."""
    replace = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if name in (path.name, Path(target).name):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(path), None, str(target))
        return replace(path, target)

    return refuse


def closed(folder: Path, *operations: dict[str, Any]) -> tuple[str, float, Store]:
    """What is said where a client with these operations cannot end, after how many seconds, and what its store has."""
    store, began = Store(), time.monotonic()
    client = SpooledClient(store, folder, "The tracking store X", "r")
    for one in operations:
        client.write(one)
    with pytest.raises(InputError) as said:
        client.close(60)
    return str(said.value), time.monotonic() - began, store


@pytest.mark.parametrize("file", ["position.json", FILE])
def test_a_file_that_may_not_be_moved_is_said_of_this_folder_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, file: str
):
    if file == FILE:
        (tmp_path / "spool" / FILE).mkdir(parents=True)  # which is moved aside where it can be
    caplog.set_level("INFO", "fashion_ml")
    monkeypatch.setattr(Path, "replace", cannot_be_moved(file))
    said, seconds, store = closed(tmp_path, metric("good"), metric("bad"))
    assert said.startswith(f"RUN_DIR: {str(tmp_path / 'spool')!r} cannot be written ({file}: " if file == FILE else "RUN_DIR: ")
    assert said.endswith(
        "Operation not permitted), which is no fault of the tracking store; mend that, and it is sent next time"
    )
    assert seconds < 5
    assert "good" in store.metrics
    told = caplog.text
    assert "does not answer" not in told
    assert told.count("which is no fault of The tracking store X") == 1
    monkeypatch.undo()
    again = SpooledClient(Store(), tmp_path, "The tracking store X", "r")
    assert not again.close(60)  # all is sent; one point is refused, which is the store's


def test_what_the_folder_takes_again_is_sent(tmp_path: Path):
    said, failed = list[str](), list[int]()

    def send(*_: object) -> None:
        if not failed:
            failed.append(1)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    spool = Spool(tmp_path, send, said.append, "The store")
    spool.write({"n": 1})
    while spool.waiting:
        time.sleep(0.02)
    assert spool.close(5)
    assert len(said) == 1
    assert said[0].startswith(f"{tmp_path} cannot be written (Read-only file system), which is no fault of The store; going on")


def test_what_was_half_sent_when_a_process_was_killed_goes_before_the_first_file_of_its_run(tmp_path: Path):
    store, half = Store(), tmp_path / "artifacts" / ".artifact.uploading.ab1"
    store.artifacts = str(half.parent)
    half.parent.mkdir()
    send = Sender(store, tmp_path / "spool", "r")
    half.write_text("")
    send([TEXT], {})
    assert not half.exists()
    half.write_text("")  # once its first file was sent, of none that is dead
    send([TEXT], {})
    assert half.exists()
    assert len(store.texts) == 2


@pytest.mark.parametrize(("status", "stays"), [("FINISHED", False), ("KILLED", False), ("RUNNING", True)])
def test_half_uploads_to_a_run_go_where_nobody_uploads_to_it_any_more(tmp_path: Path, status: str, stays: bool):
    half = tmp_path / ".artifact.uploading.ab1"
    half.write_text("")
    info = SimpleNamespace(status=status, artifact_uri=tmp_path.as_uri())
    client = SimpleNamespace(get_run=lambda run_id: SimpleNamespace(info=info))
    with adding_to_ended(TrackedRun(client, "r", "0")):
        pass
    assert half.exists() is stays


def test_two_evaluations_of_one_training_add_to_it_one_after_the_other_and_neither_takes_the_others_upload(tmp_path: Path):
    info = SimpleNamespace(status="FINISHED", artifact_uri=tmp_path.as_uri())
    client = SimpleNamespace(get_run=lambda run_id: SimpleNamespace(info=info))
    half, order = tmp_path / ".artifact.uploading.ab1", list[str]()

    def second() -> None:
        with adding_to_ended(TrackedRun(client, "r", "0")):
            order.append("second")

    other = threading.Thread(target=second)
    with adding_to_ended(TrackedRun(client, "r", "0")):
        other.start()
        half.write_text("")
        time.sleep(0.1)
        assert half.exists()
        order.append("first")
    other.join()
    assert order == ["first", "second"]
    assert not half.exists()


def test_who_stands_still_in_its_turn_holds_the_next_up_for_some_seconds_alone(tmp_path: Path):
    with in_turn(tmp_path), in_turn(tmp_path, seconds=0.1):
        assert not list(tmp_path.iterdir())
    with in_turn(tmp_path / "not there"):
        assert not list(tmp_path.iterdir())
