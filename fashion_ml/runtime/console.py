"""What a person sees while work goes on: lines through `logging`, a bar with loss, speed and time left on a terminal.

Inside a program that imports this package nothing is set up: its own `logging` decides what becomes of the lines of the logger `fashion_ml`.
The command line calls `show_lines`, which prints them to stderr.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from fashion_ml.runtime.duration import duration
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.printable import shown
from fashion_ml.runtime.wrapping import wrapped

if TYPE_CHECKING:
    from rich.progress import Progress

_LINE_EVERY_SECONDS = 20.0

console = Console(stderr=True, soft_wrap=True)
"""Everything said while working goes to stderr; results go to stdout."""
_logger = logging.getLogger("fashion_ml")


class Bar:
    """Counts steps of one piece of work."""

    def __init__(self, label: str, total: int, done: int, progress: Progress | None):
        self.label, self.total, self.done, self._first = label, total, done, done
        self._progress = progress
        self._task = progress.add_task(label, total=total, completed=done, note="") if progress else None
        self._start = self._last = time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` steps are done; `note` is shown beside the bar, such as `loss 0.1234`."""
        self.done += count
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=count, note=note or self._progress.tasks[self._task].fields["note"])
            return
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY_SECONDS or self.done == self.total:
            self._last = now
            speed = (self.done - self._first) / max(now - self._start, 1e-9)
            left = (self.total - self.done) / max(speed, 1e-9)
            say(
                tr(
                    "{label}: {done}/{total} {note} {speed:.2f} it/s, {duration} left",
                    label=self.label,
                    done=self.done,
                    total=self.total,
                    note=note,
                    speed=speed,
                    duration=duration(left),
                )
            )


@contextmanager
def bar(label: str, total: int, done: int = 0) -> Iterator[Bar]:
    """A progress bar for a block of work of which `done` is behind already."""
    if not console.is_terminal:
        yield Bar(label, total, done, None)
        return
    from fashion_ml.runtime.progress import progress_on

    with progress_on(console) as progress:
        yield Bar(label, total, done, progress)


def say(text: str) -> None:
    """One line about what is happening, at level INFO."""
    _logger.info("%s", shown(text))


def warn(text: str) -> None:
    """One line about what will not be as asked for, at level WARNING."""
    _logger.warning("%s", shown(text))


class _Lines(logging.Handler):
    """Prints to the console, also while a bar is drawn there."""

    def emit(self, record: logging.LogRecord) -> None:
        mark = (
            ""
            if record.levelno < logging.WARNING
            else tr("WARNING: ")
            if record.levelno == logging.WARNING
            else f"{record.levelname}: "
        )
        text = f"{mark}{record.getMessage()}"
        console.print(wrapped(text, console.width) if console.is_terminal else text, highlight=False, markup=False)


def show_lines() -> None:
    """Print what is said to stderr, as the command line does, and from now on only there; called again it changes nothing."""
    if not any(isinstance(handler, _Lines) for handler in _logger.handlers):
        _logger.addHandler(_Lines())
    _logger.setLevel(logging.INFO)
    _logger.propagate = False  # a library may have given the root logger a handler, which would say all of it again
