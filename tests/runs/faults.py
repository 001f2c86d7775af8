"""A layer below everything that a process does with files: at one operation it kills the process, or the disk is full from there, or the
process stops at every operation until whoever looks at the files lets it go on.

Python tells of every file that is opened for writing, renamed, removed, made, linked or cut; writes and syncs to open files are counted by
standing in for `os.write` and `os.fsync`. What other libraries write lies between such operations of ours.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from tests.runs.forked import quick_studies

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
_PACKAGE = f"{os.sep}fashion_ml{os.sep}"
DIED = 137
"""Exit code of a process that was killed here, as a shell says it of SIGKILL."""


class Faults:
    """Counts operations on files below a folder; at number `at` (from 1) `how` happens: `kill`, or `full` from there on.

    With `stop` the process tells the pipe `note` of every operation before it does it (number, what, file, and the lines of the package that
    have led to it, with tabs between), and stops itself by SIGSTOP: what lies in the folder then is what a SIGKILL there leaves.
    """

    def __init__(self, below: Path, note: Path, at: int = 0, how: str = "kill"):
        self._below, self._note, self._at, self._how = os.path.realpath(below), note, at, how
        self.count, self._lock, self._busy = 0, threading.Lock(), threading.local()

    def install(self) -> None:
        """From now on, for the rest of this process."""
        self._write, self._fsync = os.write, os.fsync
        self._pipe = os.open(self._note, os.O_WRONLY) if self._how == "stop" else -1
        os.write, os.fsync = self._stand_in_write, self._stand_in_fsync
        sys.addaudithook(self._hear)

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
            place = self._place(path)
            if place is None:
                return
            with self._lock:
                self.count += 1
                number = self.count
                if self._how == "stop":
                    self._stop(f"{number}\t{what}\t{place}\t{_led_here()}\n", half)
                    return
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
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread goes no further, and all others stop with it

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
    return " ".join(reversed(lines))


def faults(below: Path, note: Path, at: int, how: str) -> None:
    """Install them: what a `Forked` calls first. Processes of a study that it starts are forked too, and have none of their own."""
    quick_studies()
    Faults(below, note, at, how).install()
