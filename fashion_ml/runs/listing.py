"""What `fashion-ml runs` lists: runs by their names, what they gained, the verdict, how long they took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fashion_ml.evaluation.words import word
from fashion_ml.metrics.registry import TOTAL
from fashion_ml.runs.leaders import headline, is_wanted, verdict_of
from fashion_ml.runtime.duration import duration
from fashion_ml.runtime.language import tr
from fashion_ml.tracking.run_reader import RunRow, newest_rows, row_of
from fashion_ml.tracking.store import open_tracking

ID_DIGITS = 8
"""First digits of an id that are listed; any command takes them."""


_GAINS = (f"gain_{TOTAL}", "gain", "confirmed_gain")
"""What the column `gain` holds without saying so."""


@dataclass(frozen=True)
class Listing:
    """Runs, the newest first."""

    rows: Sequence[RunRow]
    more: bool
    """Whether there are older ones."""

    def to_dict(self) -> dict[str, Any]:
        """For `--json`; not measured is null."""
        return {"runs": [_told(row) for row in self.rows], "more": self.more}

    def cells(self) -> list[list[str]]:
        """Id, name, gain (of what has none its number and what it is), verdict, time and status of each."""
        return [
            [
                row.run_id[:ID_DIGITS],
                row.name,
                _number(row),
                _verdict(row),
                duration(_seconds(row)),
                _status(row),
            ]
            for row in self.rows
        ]


def _status(row: RunRow) -> str:
    words = {
        "RUNNING": tr("running"),
        "FINISHED": tr("finished"),
        "FAILED": tr("failed"),
        "KILLED": tr("killed"),
        "SCHEDULED": tr("scheduled"),
    }
    return words.get(row.status, row.status.lower())


def list_runs(experiment: str, most: int) -> Listing:
    """The newest runs of an experiment by its name, or of all. InputError where the store has none of that name, or does not answer."""
    rows, more = newest_rows(open_tracking(make=False), experiment, most, lambda run: row_of(run, is_wanted, ()))
    return Listing(rows, more)


def _seconds(row: RunRow) -> float:
    """How long a run took; so far, of one that runs."""
    ended = row.ended if row.ended and row.status != "RUNNING" else time.time() * 1000
    return max(ended - row.started, 0) / 1000


def _verdict(row: RunRow) -> str:
    """In a word; `no verdict` where a gain was measured and none was given, empty where nothing was to be judged."""
    value = headline(row)
    return word(verdict_of(row)) or (tr("no verdict") if value is not None and "gain" in value.metric else "")


def _number(row: RunRow) -> str:
    value = headline(row)
    if value is None:
        return ""
    form = "{:+.3f}" if "gain" in value.metric else "{:.3f}"
    ends = "" if value.low is None or value.high is None else f" [{form.format(value.low)}, {form.format(value.high)}]"
    what = "" if value.metric in _GAINS else f"{value.metric.removeprefix('gain_')} "
    return f"{what}{form.format(value.mean)}{ends}"


def _told(row: RunRow) -> dict[str, Any]:
    value = headline(row)
    number = None if value is None else {"metric": value.metric, "mean": value.mean, "low": value.low, "high": value.high}
    return {
        "run_id": row.run_id,
        "name": row.name,
        "kind": row.kind,
        "status": row.status,
        "verdict": verdict_of(row) or None,
        "measured": number,
        "started": row.started,
        "seconds": _seconds(row),
    }
