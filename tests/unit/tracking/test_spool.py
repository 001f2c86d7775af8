"""The file that everything logged goes through: nothing lost, nothing twice, whatever dies."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashion_ml.errors import InputError
from fashion_ml.tracking.set_aside import FILE
from fashion_ml.tracking.spool import Operation, RetryLater, Spool
from tests.fuzz.by_hand import ODD


class Receiver:
    """Takes operations; may be away."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.away = False

    def __call__(self, operations: Sequence[Operation], names: dict[str, str]) -> None:
        if self.away:
            raise RetryLater("gone")
        self.got += [operation["n"] for operation in operations]


def quiet(text: str) -> None:
    pass


def test_operations_arrive_in_order_and_once_across_two_openings(tmp_path: Path):
    receiver = Receiver()
    for first in (0, 50):
        spool = Spool(tmp_path, receiver, quiet, "it")
        for number in range(first, first + 50):
            spool.write({"n": number})
        assert spool.close(10)
    assert receiver.got == list(range(100))


def test_while_the_receiver_is_away_writing_goes_on_and_it_is_told_once(tmp_path: Path):
    receiver, said = Receiver(), list[str]()
    receiver.away = True
    spool = Spool(tmp_path, receiver, said.append, "The store")
    slowest = 0.0
    for number in range(200):
        start = time.monotonic()
        spool.write({"n": number})
        slowest = max(slowest, time.monotonic() - start)
        time.sleep(0.005)
    assert slowest < 0.5
    assert not spool.flush(0.5)
    assert receiver.got == []
    assert said == [f"The store does not answer (gone); going on, what is logged is kept in {tmp_path}"]
    receiver.away = False
    assert spool.close(30)
    assert receiver.got == list(range(200))
    assert said[1:] == ["The store answers again"]


def test_what_was_not_sent_is_sent_by_the_next_opening(tmp_path: Path):
    receiver = Receiver()
    receiver.away = True
    spool = Spool(tmp_path, receiver, quiet, "it")
    spool.write({"n": 1})
    assert not spool.close(0.2)
    receiver.away = False
    assert Spool(tmp_path, receiver, quiet, "it").close(10)
    assert receiver.got == [1]


@settings(max_examples=25)
@given(cut=st.integers(0, 60), long=st.integers(1, 400_000))
def test_a_last_line_that_was_cut_is_dropped_and_the_rest_is_kept(
    tmp_path_factory: pytest.TempPathFactory, cut: int, long: int
):
    """Lines longer than what is read at once too."""
    folder, receiver = tmp_path_factory.mktemp("spool"), Receiver()
    lines = [json.dumps({"n": 0, "text": "x" * long}), json.dumps({"n": 1, "text": "y" * 50})]
    whole = "\n".join([*lines, ""]).encode()
    (folder / "operations.jsonl").write_bytes(whole[: len(whole) - cut])
    spool = Spool(folder, receiver, quiet, "it")
    spool.write({"n": 2})
    assert spool.close(10)
    assert receiver.got == ([0, 1, 2] if cut == 0 else [0, 2])


def test_a_crash_between_sending_and_noting_it_sends_again_what_was_not_noted(tmp_path: Path):
    """So that receivers must take an operation twice as once: nothing is lost."""
    receiver = Receiver()
    spool = Spool(tmp_path, receiver, quiet, "it")
    spool.write({"n": 1})
    assert spool.close(10)
    (tmp_path / "position.json").unlink()
    assert Spool(tmp_path, receiver, quiet, "it").close(10)
    assert receiver.got == [1, 1]


def test_one_process_at_a_time_has_a_spool_open(tmp_path: Path):
    spool = Spool(tmp_path / "spool", Receiver(), quiet, "it")
    with pytest.raises(InputError, match="is still being written by its training; wait for its end"):
        Spool(tmp_path / "spool", Receiver(), quiet, "it")
    spool.close(1)


def test_an_answer_to_a_name_is_there_after_the_next_opening(tmp_path: Path):
    def naming(operations: Sequence[Operation], names: dict[str, str]) -> None:
        names["pending"] = "real"

    send: Callable[..., None] = naming
    spool = Spool(tmp_path, send, quiet, "it")
    spool.write({"n": 1})
    assert spool.close(10)
    again = Spool(tmp_path, send, quiet, "it")
    assert again.names == {"pending": "real"}
    again.close(1)


def test_a_spool_shorter_than_its_note_goes_on_with_what_comes(tmp_path: Path):
    """The machine stopped before the disk had the last lines, which had been sent."""
    receiver = Receiver()
    spool = Spool(tmp_path, receiver, quiet, "it")
    for number in range(10):
        spool.write({"n": number})
    assert spool.close(10)
    path = tmp_path / "operations.jsonl"
    path.write_bytes(path.read_bytes()[:-13])
    spool = Spool(tmp_path, receiver, quiet, "it")
    for number in range(10, 16):
        spool.write({"n": number})
    assert spool.close(10)
    assert receiver.got == list(range(16))


def test_a_damaged_note_sends_all_again(tmp_path: Path):
    receiver = Receiver()
    spool = Spool(tmp_path, receiver, quiet, "it")
    spool.write({"n": 1})
    assert spool.close(10)
    (tmp_path / "position.json").write_text('{"sent": 5')
    assert Spool(tmp_path, receiver, quiet, "it").close(10)
    assert receiver.got == [1, 1]


def test_an_unforeseen_error_of_the_receiver_does_not_end_the_sending(tmp_path: Path):
    receiver, failed = Receiver(), list[int]()

    def send(operations: Sequence[Operation], names: dict[str, str]) -> None:
        if not failed:
            failed.append(1)
            raise KeyError("surprise")
        receiver(operations, names)

    spool = Spool(tmp_path, send, quiet, "it")
    spool.write({"n": 1})
    assert spool.close(10)
    assert receiver.got == [1]


def test_two_threads_may_note_the_position_at_once(tmp_path: Path):
    """The sender notes it after each sending, and whoever closes the spool does too."""
    spool = Spool(tmp_path, Receiver(), quiet, "it")
    failed = list[BaseException]()

    def note() -> None:
        try:
            for _ in range(50):
                spool.remember()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=note) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spool.close(5)
    assert not failed


def test_a_short_write_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The system may take less of a write than it was given, as a nearly full disk or a signal makes it."""
    receiver = Receiver()
    spool, write = Spool(tmp_path, receiver, quiet, "it"), os.write
    monkeypatch.setattr(os, "write", lambda file, line: write(file, line[: max(len(line) // 3, 1)]))
    for number in range(20):
        spool.write({"n": number})
    monkeypatch.undo()
    assert spool.close(10)
    assert receiver.got == list(range(20))


@pytest.mark.parametrize("truncates", [True, False], ids=["cut back at once", "cut back by the next"])
def test_a_write_that_a_full_disk_takes_half_of_is_cut_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truncates: bool):
    receiver, said = Receiver(), list[str]()
    spool, write, calls = Spool(tmp_path, receiver, said.append, "it"), os.write, list[int]()
    spool.write({"n": 0})

    def full(file: int, line: bytes) -> int:
        calls.append(1)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return write(file, line[:4])

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "write", full)
    if not truncates:
        monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(OSError, match="No space"):
        spool.write({"n": 1})
    monkeypatch.undo()
    spool.write({"n": 2})
    assert spool.close(10)
    assert receiver.got == [0, 2]
    assert not said


def test_a_record_that_cannot_be_read_goes_aside_and_the_rest_is_sent(tmp_path: Path):
    receiver, said = Receiver(), list[str]()
    lines = [b'{"n":0}', b'{"n":1', b"\xff\xfe\x00", b"[1]", b'{"n":2}']
    (tmp_path / "operations.jsonl").write_bytes(b"\n".join([*lines, b""]))
    assert Spool(tmp_path, receiver, said.append, "The store").close(10)
    assert receiver.got == [0, 2]
    kept = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [entry["record"] for entry in kept] == ['{"n":1', "\ufffd\ufffd\x00", "[1]"]
    assert len(said) == 3
    assert "the record at byte 8 is damaged, which is no fault of The store; it is kept in" in said[0]
    (tmp_path / "position.json").unlink()  # a crash: all is sent again, and nothing is set aside twice
    assert Spool(tmp_path, receiver, said.append, "The store").close(10)
    assert len((tmp_path / FILE).read_text().splitlines()) == len(said) == 3


DEEP = "[" * 200_000 + "]" * 200_000


@pytest.mark.parametrize("record", [DEEP, '{"n":' + DEEP + "}"], ids=["alone", "in an operation"])
@pytest.mark.parametrize("at", [0, 1])
def test_a_record_that_is_nested_too_deep_goes_aside_and_the_rest_is_sent(tmp_path: Path, record: str, at: int):
    receiver, said, lines = Receiver(), list[str](), ['{"n":0}', '{"n":1}']
    lines.insert(at, record)
    (tmp_path / "operations.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
    assert Spool(tmp_path, receiver, said.append, "The store").close(10)
    assert receiver.got == [0, 1]
    (kept,) = (json.loads(line) for line in (tmp_path / FILE).read_text().splitlines())
    assert kept["record"] == record
    assert len(said) == 1
    assert "is damaged, which is no fault of The store; it is kept in" in said[0]


def test_a_last_record_that_is_nested_too_deep_is_left_out_as_any_damaged_one(tmp_path: Path):
    receiver, said = Receiver(), list[str]()
    (tmp_path / "operations.jsonl").write_text(f'{{"n":0}}\n{DEEP}\n', encoding="utf-8")
    assert Spool(tmp_path, receiver, said.append, "The store").close(10)
    assert receiver.got == [0]
    assert len(said) == 1
    assert "the last line is damaged" in said[0]


def test_what_goes_wrong_here_is_not_told_of_the_receiver(tmp_path: Path):
    said = list[str]()

    def send(operations: Sequence[Operation], names: dict[str, str]) -> None:
        raise KeyError("surprise")

    spool = Spool(tmp_path, send, said.append, "The store")
    spool.write({"n": 1})
    assert not spool.flush(1.2)  # it was tried twice
    assert not spool.away
    spool.close(0)
    assert said == [
        f"What is in {tmp_path} could not be sent (KeyError: 'surprise'), which is no answer of The store; going on, it is kept "
        "there and tried again"
    ]


def test_a_spool_is_its_owners_alone(tmp_path: Path):
    spool = Spool(tmp_path / "spool", Receiver(), quiet, "it")
    spool.write({"n": 1})
    assert spool.close(10)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "spool").iterdir()}
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    assert set(modes.values()) == {0o600}
    assert {"operations.jsonl", "position.json"} <= modes.keys()


@pytest.mark.parametrize(
    ("name", "odd"),
    [
        *(("operations.jsonl", odd) for odd in ("folder", "pipe", "endless", "loop", "socket", "sparse")),
        *(
            ("lock", odd) for odd in ("folder", "endless", "loop", "socket")
        ),  # a pipe or a sparse file can be locked as a file is
    ],
)
def test_what_is_no_file_in_its_place_is_refused_in_a_line(tmp_path: Path, odd: str, name: str):
    ODD[odd](tmp_path / name)
    with pytest.raises(InputError, match=r"cannot be used .*; bring back a copy of it, or move it aside"):
        Spool(tmp_path, None, quiet, "it")


@pytest.mark.parametrize(
    "name", ["spool", "spool/operations.jsonl", "spool/lock", "spool/set_aside.jsonl", "spool/position.json"]
)
def test_no_file_that_a_link_leads_to_is_changed(tmp_path: Path, name: str):
    """The folder of a run may come from anywhere."""
    place, outside = tmp_path / "spool", tmp_path / "outside"
    if name == "spool":
        outside.mkdir()
        theirs = outside / "operations.jsonl"
    else:
        place.mkdir()
        theirs = outside
    theirs.write_text("theirs, without end")
    (tmp_path / name).symlink_to(outside)
    if not name.endswith(("spool", "operations.jsonl")):
        (place / "operations.jsonl").write_text('damaged\n{"n": 1}\n')
    try:
        spool = Spool(place, Receiver(), quiet, "it")
        spool.write({"n": 2})
        spool.close(5)
    except InputError:
        pass
    assert theirs.read_text() == "theirs, without end"
    assert [path.name for path in outside.iterdir()] == ["operations.jsonl"] if outside.is_dir() else True


def test_many_damaged_records_are_kept_and_few_are_said(tmp_path: Path):
    count, said = 20_000, list[str]()
    (tmp_path / "operations.jsonl").write_text("".join(f"damaged {number}\n" for number in range(count)) + '{"n": 1}\n')
    began, receiver = time.monotonic(), Receiver()
    Spool(tmp_path, receiver, said.append, "it").close(20)
    assert time.monotonic() - began < 10
    assert receiver.got == [1]
    kept = [json.loads(line)["record"] for line in (tmp_path / FILE).read_text().splitlines()]
    assert kept == [f"damaged {number}" for number in range(count)]
    assert len(said) == 21
    assert said[-1].startswith("More records are left out; see ")


def test_a_record_longer_than_any_goes_aside_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fashion_ml.tracking.spool._LONGEST", 1 << 20)
    (tmp_path / "operations.jsonl").write_text('{"n": 1}\n{"n": "' + "x" * (3 << 20) + '"}\n{"n": 2}\n')
    receiver = Receiver()
    Spool(tmp_path, receiver, quiet, "it").close(20)
    assert receiver.got == [1, 2]
    (kept,) = (tmp_path / FILE).read_text().splitlines()
    assert len(kept) < 1000


@pytest.mark.parametrize(
    "note",
    [
        '{"sent": -5, "names": {}}',
        '{"sent": 3, "names": {}}',
        '{"sent": 1, "names": {"a": 5}}',
        "[]",
        '{"sent": 1e400}',
        pytest.param('{"sent": ' + DEEP + "}", id="deep"),
    ],
)
def test_a_note_of_no_place_between_records_is_none_and_all_is_sent(tmp_path: Path, note: str):
    """A position before the file, or within a record, was asked of the disk again and again for a minute."""
    (tmp_path / "operations.jsonl").write_text('{"n":1}\n{"n":2}\n', encoding="utf-8")
    (tmp_path / "position.json").write_text(note, encoding="utf-8")
    receiver, said = Receiver(), list[str]()
    assert Spool(tmp_path, receiver, said.append, "it").close(10)
    assert (receiver.got, said) == ([1, 2], [])
