"""What a benchmark found, as rows: printed, and handed to `python -m benchmarks` where that started it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fashion_ml.runtime.console import say, show_lines

FILE = "FASHION_ML_BENCHMARK_ROWS"
"""Environment variable: the file that rows are written to."""


@dataclass(frozen=True)
class Row:
    """One figure: what was measured, ours, the other one, and ours over it."""

    what: str
    ours: str
    other: str = ""
    """What it is beside, with its figure; empty for a figure that stands alone."""
    ratio: float | None = None
    """How many times as fast ours is; None where there is nothing beside it."""


def report(rows: Sequence[Row]) -> None:
    """Print the rows and hand them on."""
    show_lines()
    for row in rows:
        say(
            f"{row.what}: {row.ours}"
            + (f"; {row.other}" if row.other else "")
            + (f"; ratio {row.ratio:.2f}" if row.ratio else "")
        )
    if FILE in os.environ:
        Path(os.environ[FILE]).write_text(json.dumps([asdict(row) for row in rows]), encoding="utf-8")
