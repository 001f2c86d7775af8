"""Progress that a person sees: a bar with loss, speed and time left on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

_LINE_EVERY_SECONDS = 20.0

console = Console(stderr=True, soft_wrap=True)
"""Everything said while working goes to stderr; results go to stdout."""


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f} it/s" if task.speed else "- it/s")


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
            console.print(f"{self.label}: {self.done}/{self.total} {note} {speed:.2f} it/s, {left:.0f} s left", highlight=False)


@contextmanager
def bar(label: str, total: int, done: int = 0) -> Iterator[Bar]:
    """A progress bar for a block of work of which `done` is behind already."""
    if not console.is_terminal:
        yield Bar(label, total, done, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        _Speed(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield Bar(label, total, done, progress)


def say(text: str) -> None:
    """One line about what is happening."""
    console.print(text, highlight=False, markup=False)
