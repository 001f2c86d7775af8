"""An append-only file of what is to be sent somewhere, and a thread that sends it: nothing is lost, and the writer never waits.

Each line is one operation (JSON), made by `spooled_client.py` and performed by `sender.py`: `do` says what, `run` on which run.

    batch    metrics [key, value, time in ms, step], params and tags [key, value]
    file     path of a file (from the run's folder, where it is in that), folder of the artifacts it goes to
    folder   the same for all files of a folder
    text     text, artifact
    inputs   datasets, each with its tags
    create   a run: experiment (empty: that of the run above it), name, start, tags; the run's name here is one of our own until the
             store has answered. The run of an offline training says the experiment it wants: named, chosen, and its id where that is known
    begin    a run that had ended goes on; end: status, end in ms
    untag    key of a tag that goes; delete: the run goes

What cannot be read, or is none of the run's own, goes to `set_aside.jsonl`, and the rest goes on. All of it is its owner's alone.
`position.json` beside it says how far they were sent, and what the receiver answered to those that ask
for a name. An operation may be sent again after a crash between the sending and that note, so operations must be idempotent.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.input_file import opened, read_whole
from fashion_ml.runtime.json_file import parsed
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.own_file import open_own
from fashion_ml.runtime.redact import first_line
from fashion_ml.tracking.operation_shape import parted
from fashion_ml.tracking.set_aside import Aside

Operation = dict[str, Any]
Send = Callable[[Sequence[Operation], dict[str, str]], None]
"""Sends some operations in order, and adds the answers to the names; RetryLater where trying again may help."""
_CHUNK, _SYNC_SECONDS, _IDLE_SECONDS = 1 << 18, 0.5, 0.1
LOG = "operations.jsonl"
"""What was logged, an operation a line."""
_SENT_AT_ONCE = 1 << 19
"""Bytes: some ten thousand metric points, ten of the largest requests that MLflow takes, a second of its work."""
_BACKOFF_SECONDS, _BACKOFF_MOST = 0.5, 15.0
MOST_BYTES, _LONGEST, _KEPT_OF_LONG = 8 << 30, 256 << 20, 200
"""Bytes of a spool's file and of one of its records (eighty million points, ten times the largest report), and those kept of a longer one."""


def locked(folder: Path) -> FileLock:
    """The lock of a spool's folder, taken. InputError while another process has it, and where it is none of this folder."""
    lock = FileLock(folder / "lock", timeout=0, mode=0o600)
    try:
        if folder.is_symlink():
            raise OSError(errno.EINVAL, tr("{name} is a link, a pipe or a device", name=folder.name))
        lock.acquire()
    except Timeout:
        raise InputError(
            tr("RUN_DIR: {parent!r} is still being written by its training; wait for its end", parent=str(folder.parent))
        ) from None
    except OSError as error:
        raise _not_ours(error.strerror or str(error), folder) from None
    return lock


def _not_ours(why: str, path: Path) -> InputError:
    return InputError(
        tr("RUN_DIR: {path!r} cannot be used ({why}); bring back a copy of it, or move it aside", path=str(path), why=why)
    )


def _too_long(size: int) -> str:
    return tr("it has {size:.1f} GiB, and at most {most:.0f} are read", size=size / 2**30, most=MOST_BYTES / 2**30)


class RetryLater(Exception):  # noqa: N818 (it is no error of anyone here)
    """The receiver does not answer now."""


class Spool:
    """The file `operations.jsonl` in a folder, and its sender; without one everything is kept for a later opening.

    `write` costs one small write to a file that is open; it is on the disk within a second. One process at a time has a spool open. InputError
    when another one has.
    """

    def __init__(self, folder: Path, send: Send | None, say: Callable[[str], None], where: str):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        self.folder, self._send, self._say, self._where = folder, send, say, where
        self._path, self._aside = folder / LOG, Aside(folder, say)
        self._lock = locked(folder)
        try:
            self._file = open_own(self._path, os.O_APPEND)
        except OSError as error:
            self._lock.release()
            raise _not_ours(error.strerror or str(error), self._path) from None
        if (size := os.fstat(self._file).st_size) > MOST_BYTES:
            os.close(self._file)
            self._lock.release()
            raise _not_ours(_too_long(size), self._path)
        self._path.chmod(0o600)
        self._written, cut = _cut_to_whole_lines(self._file)
        if cut:
            say(
                tr(
                    "{path}: the last line is damaged, as a crash leaves it, and is left out ({cut} bytes)",
                    path=self._path,
                    cut=cut,
                )
            )
        sent, self.names = read_position(folder)
        self._sent = min(sent, self._written)  # less than that is there when the machine stopped before the disk had it
        if self._sent and os.pread(self._file, 1, self._sent - 1) != b"\n":
            self._sent = 0  # within a record, which no sender notes
        self._write_lock, self._note_lock = threading.Lock(), threading.Lock()
        self._dirty, self._torn, self._closing = False, False, threading.Event()
        self.away = False
        """Whether the receiver did not answer last time."""
        self.fault = ""
        """Why this folder did not take last time what belongs into it, which is no fault of the receiver; empty where it did."""
        self._progress, self._again = time.monotonic(), 0.0
        self._thread = threading.Thread(target=self._run, daemon=True, name="spool")
        self._thread.start()

    def write(self, operation: Operation) -> None:
        """Append an operation, whole or not at all. OSError where the disk does not take it."""
        line = (json.dumps(operation, separators=(",", ":")) + "\n").encode()
        with self._write_lock:
            if self._torn:
                self._cut_back()
            done = 0
            try:
                while done < len(line):
                    done += os.write(self._file, line[done:] if done else line)
            except BaseException:
                self._torn = done < len(line)
                if self._torn:
                    with suppress(OSError):  # the next one tries again
                        self._cut_back()
                else:
                    self._written += len(line)
                raise
            self._written += len(line)
            self._dirty = True

    def _cut_back(self) -> None:
        os.ftruncate(self._file, self._written)
        self._torn = False

    @property
    def waiting(self) -> int:
        """Bytes that were not sent yet."""
        return self._written - self._sent

    def remember(self) -> None:
        """Note how far things were sent, and the names; by any thread."""
        with self._note_lock:
            note_position(self.folder, self._sent, self.names)

    def flush(self, seconds: float) -> bool:
        """Wait until everything is sent, until the receiver has not taken anything for so many seconds, or until this folder has a `fault`;
        whether everything was."""
        self._progress = time.monotonic()
        self.fault, self._again = "", 0.0  # tried at once
        while self.waiting and self._thread.is_alive() and not self.fault and time.monotonic() - self._progress < seconds:
            time.sleep(_IDLE_SECONDS / 5)
        return not self.waiting

    def close(self, seconds: float) -> bool:
        """Flush and end; what is left is sent by whoever opens the spool next."""
        done = self.flush(seconds)
        self._closing.set()
        self._thread.join(timeout=30 if done else 1)
        try:
            os.fsync(self._file)
        finally:
            os.close(self._file)
            self._lock.release()
        return done

    def _run(self) -> None:
        wait, synced, told = _BACKOFF_SECONDS, 0.0, ""
        while not self._closing.is_set():
            if self._dirty and time.monotonic() - synced > _SYNC_SECONDS:
                self._dirty, synced = False, time.monotonic()
                with suppress(OSError):  # a full disk: the next time, or whoever writes says it
                    os.fsync(self._file)
            if self._send is None or not self.waiting or time.monotonic() < self._again:
                self._closing.wait(_IDLE_SECONDS if self.waiting or not self._dirty else _IDLE_SECONDS / 2)
                continue
            try:
                self._send_some()
                if self.away:
                    self._say(tr("{where} answers again", where=self._where))
                self.away, self.fault, wait, told = False, "", _BACKOFF_SECONDS, ""
            except (OSError, InputError) as error:  # of a file here: what the receiver does not do is RetryLater
                self._again, wait = time.monotonic() + wait, min(2 * wait, _BACKOFF_MOST)
                self.fault = own_fault(error)
                if self.fault != told:
                    told = self.fault
                    self._say(
                        tr(
                            "{folder} cannot be written ({why}), which is no fault of {where}; going on, what is logged waits "
                            "there until it can",
                            folder=self.folder,
                            why=told,
                            where=self._where,
                        )
                    )
            except RetryLater as error:
                if not self.away:
                    self._say(
                        tr(
                            "{where} does not answer ({error}); going on, what is logged is kept in {folder}",
                            where=self._where,
                            error=error,
                            folder=self.folder,
                        )
                    )
                self.away, self._again, wait = True, time.monotonic() + wait, min(2 * wait, _BACKOFF_MOST)
            except Exception as error:  # nothing that goes wrong here may end the sending
                self._again, wait = time.monotonic() + wait, min(2 * wait, _BACKOFF_MOST)
                if (failed := f"{type(error).__name__}: {first_line(error)[:200]}") != told:
                    told = failed
                    self._say(
                        tr(
                            "What is in {folder} could not be sent ({why}), which is no answer of {where}; going on, it is kept "
                            "there and tried again",
                            folder=self.folder,
                            why=told,
                            where=self._where,
                        )
                    )

    def _send_some(self) -> None:
        assert self._send is not None
        content = os.pread(self._file, _SENT_AT_ONCE, self._sent)
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:  # a line longer than a chunk
            whole = self._long_line()
        os.fsync(self._file)  # else the disk may know that they were sent, and not what
        found, place = [], self._sent
        for line in whole.splitlines(keepends=True):
            operation = _whole(line)
            if operation is not None:
                found.append(operation)
            else:
                self._aside.keep(
                    line.decode("utf-8", errors="replace").rstrip("\n"),
                    tr("it cannot be read"),
                    tr(
                        "{path}: the record at byte {place} is damaged, which is no fault of {where}; it is kept in "
                        "{folder}, and the rest goes on",
                        path=self._path,
                        place=place,
                        where=self._where,
                        folder=self._aside.path,
                    ),
                )
            place += len(line)
        self._aside.sync()
        self._send(found, self.names)
        self._sent += len(whole)
        self.remember()
        self._progress = time.monotonic()

    def _long_line(self) -> bytes:
        """The first line that is not sent; of one that is longer than any record only the end, which says that it is none."""
        end = self._sent
        while (found := os.pread(self._file, _SENT_AT_ONCE, end).find(b"\n")) < 0:
            end += _SENT_AT_ONCE
        end += found + 1
        if end - self._sent <= _LONGEST:
            return os.pread(self._file, end - self._sent, self._sent)
        self._sent = end - _KEPT_OF_LONG
        return os.pread(self._file, _KEPT_OF_LONG, self._sent)


def own_fault(error: OSError | InputError) -> str:
    """Why a file of a spool's folder could not be written, moved or removed, and which."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    if not isinstance(cause, OSError):
        return first_line(error)
    named = [Path(str(one)).name for one in (cause.filename, cause.filename2) if isinstance(one, str | Path)]
    file = next((name for name in named if not name.endswith(".tmp")), "")
    return ": ".join(part for part in (file, cause.strerror or first_line(cause)) if part)


def read_operations(path: Path) -> Iterator[Operation]:
    """What a spool's file holds, sent or not; records that are damaged, or no operations, are left out."""
    with opened(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > MOST_BYTES:
            raise _not_ours(_too_long(size), path)
        while line := file.readline(_LONGEST):
            operation, _ = parted(_whole(line))
            if operation is not None:
                yield operation


def last_operations(path: Path) -> Iterator[Operation]:
    """The last operations of a spool's file, as many as are in its last quarter of a MiB, the newest first."""
    if not path.is_file():
        return
    with opened(path) as file:
        start = max(path.stat().st_size - _CHUNK, 0)
        file.seek(start)
        lines = file.read().splitlines(keepends=True)
    for line in reversed(lines[1:] if start else lines):
        operation, _ = parted(_whole(line))
        if operation is not None:
            yield operation


def _whole(line: bytes) -> Operation | None:
    """The operation of a line; None where it is damaged."""
    try:
        found = parsed(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def note_position(folder: Path, sent: int, names: dict[str, str]) -> None:
    """Note how many bytes of a spool were sent, and the receiver's names."""
    write_text(folder / "position.json", json.dumps({"sent": sent, "names": names}) + "\n", private=True)


def read_position(folder: Path) -> tuple[int, dict[str, str]]:
    """Bytes of a spool that were sent, and the receiver's names; from the start without a whole note: operations are idempotent."""
    try:
        known = parsed(read_whole(folder / "position.json"))
        sent, names = int(known["sent"]), dict(known["names"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return 0, {}
    if sent < 0 or not all(isinstance(one, str) for pair in names.items() for one in pair):
        return 0, {}
    return sent, names


def _cut_to_whole_lines(file: int) -> tuple[int, int]:
    """Cut a last line that a crash left half written, or without sense; the size in bytes, and how many were cut."""
    size = os.fstat(file).st_size
    end = _behind_line(file, size)
    last = _behind_line(file, end - 1) if end else 0
    if end and (end - last > _LONGEST or _whole(os.pread(file, end - last, last)) is None):
        end = last
    if end < size:
        os.ftruncate(file, end)
    return end, size - end


def _behind_line(file: int, end: int) -> int:
    """Where the last line feed before `end` is, behind it; 0 without one."""
    while end > 0:
        start = max(end - _CHUNK, 0)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
