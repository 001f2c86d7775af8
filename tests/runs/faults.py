"""A layer below everything that a process does with files: at one operation it kills the process, or the disk is full from there, or the
process waits at every operation until whoever looks at the files lets it go on. It is in the processes that a study begins too.

Python tells of every file that is opened for writing, renamed, removed, made, linked or cut; writes and syncs to open files are counted by
standing in for `os.write` and `os.fsync`. What other libraries write lies between such operations of ours. SQLite's own files are none of
these: a transaction is in them whole or not at all wherever its process dies, as its rollback journal or log says to whoever opens them next,
so that all that a kill can leave of one is what is there before its commit or behind it, and both are operations here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from tests.runs import forked

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NAMED = {
    "os.rename": 2,
    "os.remove": 1,
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.link": 2,
    "os.symlink": 2,
    "os.truncate": 1,
    "os.chmod": 1,
}
TAKES_SPACE = ("open", "os.mkdir", "os.link", "write", "os.rename", "fsync")
"""Operations that a full disk refuses."""
_COMMIT, _COMMITTED = "commit", "committed"
_PACKAGE, _MOST_LINES = f"{os.sep}fashion_ml{os.sep}", 3000
"""Characters of the lines that are told: a write to a pipe is whole up to 4096 bytes, whoever else writes."""
DIED = 137
"""Exit code of a process that was killed here, as a shell says it of SIGKILL."""


class Faults:
    """Counts operations on files below a folder, of all processes that it is installed in; at number `at` (from 1) `how` happens: `kill`, of
    the process whose operation it is, or `full` from there on.

    With `stop` the process tells the pipe `note` of every operation before it does it (its own number, what, file, and the lines of the
    package that have led to it, with tabs between), and waits until it is told to go on in the pipe `permission(note, its number)`.
    """

    def __init__(self, below: Path, note: Path, at: int = 0, how: str = "kill"):
        self._below, self._note, self._at, self._how = os.path.realpath(below), note, at, how
        self._lock, self._busy = threading.Lock(), threading.local()

    def install(self, *, first: bool = True) -> None:
        """From now on, for the rest of this process; the `first` one begins to count."""
        self._write, self._fsync = os.write, os.fsync
        self._pipe = self._go = self._count = -1
        if self._how == "stop":
            self._pipe = os.open(self._note, os.O_WRONLY)
            os.mkfifo(go := permission(self._note, os.getpid()))
            self._go = os.open(go, os.O_RDWR)
        else:
            self._count = os.open(
                self._note.with_suffix(".count"), os.O_RDWR | os.O_CREAT | (os.O_TRUNC if first else 0), 0o600
            )
        os.write, os.fsync = self._stand_in_write, self._stand_in_fsync
        self._hear_commits()
        sys.addaudithook(self._hear)

    def _hear_commits(self) -> None:
        """Before and behind what is committed to any store."""
        from sqlalchemy.engine.default import DefaultDialect

        commit = DefaultDialect.do_commit

        def stand_in(dialect: Any, connection: Any) -> None:
            writes = getattr(connection, "in_transaction", False)
            if writes:
                self._happens(_COMMIT, None)
            commit(dialect, connection)
            if writes:
                self._happens(_COMMITTED, None)

        DefaultDialect.do_commit = stand_in  # type: ignore[method-assign]

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            if isinstance(flags, int) and not flags & _WRITING and not (isinstance(mode, str) and set(mode) & set("wax+")):
                return
            self._happens(event, path)
        elif event in _NAMED:
            self._happens(event, args[_NAMED[event] - 1])

    def _stand_in_write(self, file: int, content: bytes) -> int:
        done = 0

        def half() -> None:
            nonlocal done
            done = self._write(file, content[: len(content) // 2])

        self._happens("write", file, half)
        return done + self._write(file, content[done:])

    def _stand_in_fsync(self, file: int) -> None:
        self._happens("fsync", file)
        self._fsync(file)

    def _happens(self, what: str, path: Any, half: Any = None) -> None:
        if getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            place = os.path.join(self._below, "store") if what in (_COMMIT, _COMMITTED) else self._place(path)  # noqa: PTH118
            if place is None:
                return
            with self._lock:
                if self._how == "stop":
                    self._stop(f"{os.getpid()}\t{what}\t{place}\t{_led_here()}\n", half)
                    return
                number = self._next()
            full = self._how == "full" and self._at and number >= self._at and what in TAKES_SPACE
            if number == self._at:
                self._note.write_text(f"{number} {what} {place}\n")
            if number == self._at and self._how == "kill":
                if half:
                    half()
                os._exit(DIED)
            if full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), place)
        finally:
            self._busy.now = False

    def _stop(self, line: str, half: Any) -> None:
        if half:
            half()
        self._write(self._pipe, line.encode())
        os.read(self._go, 1)

    def _next(self) -> int:
        """The number of an operation, whichever process does it."""
        fcntl.flock(self._count, fcntl.LOCK_EX)
        number = int(os.pread(self._count, 20, 0) or b"0") + 1
        os.pwrite(self._count, b"%d" % number, 0)
        fcntl.flock(self._count, fcntl.LOCK_UN)
        return number

    def _place(self, path: Any) -> str | None:
        """The file, where it is below the folder and none of ours."""
        try:
            name = str(Path(f"/proc/self/fd/{path}").readlink()) if isinstance(path, int) else os.fsdecode(path)
        except (OSError, TypeError, ValueError):
            return None
        whole = os.path.realpath(name)
        if not whole.startswith(self._below + os.sep) or whole == os.path.realpath(self._note):
            return None
        return None if Path(whole).name.startswith(("forked.", "mlflow.db", "study.db")) else whole


def _led_here() -> str:
    """The lines of the package that are being executed, the outermost first."""
    frame, lines = sys._getframe(), list[str]()
    while frame is not None:
        if _PACKAGE in frame.f_code.co_filename:
            lines.append(f"{frame.f_code.co_filename.partition(_PACKAGE)[2]}:{frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]
    return " ".join(reversed(lines))[-_MOST_LINES:]


def permission(note: Path, pid: int) -> Path:
    """The pipe in which a process that waits is told to go on."""
    return note.with_name(f"go.{pid}")


def faults(below: Path, note: Path, at: int, how: str, first: bool = True) -> None:
    """Install them: what a `Forked` calls first; in the processes of a study that it starts they are too."""
    forked.quick_studies()
    forked.in_children = partial(faults, below, note, at, how, first=False)
    Faults(below, note, at, how).install(first=first)
