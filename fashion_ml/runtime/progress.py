"""The bar of one piece of work on a terminal; apart, because rich's progress is loaded with the first bar and not with `--help`."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from fashion_ml.runtime.duration import duration
from fashion_ml.runtime.language import tr


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f} it/s" if task.speed else "- it/s")


class _Left(ProgressColumn):
    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        return Text("" if task.finished or left is None else tr("{duration} left", duration=duration(left)))


def progress_on(console: Console) -> Progress:
    """Bars with steps, a note, speed and time left; tasks have the field `note`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        _Speed(),
        _Left(),
    )
    return Progress(*columns, console=console)
