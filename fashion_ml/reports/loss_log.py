"""training_loss_log.txt: one row every so many steps, N/A where nothing was measured."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.input_file import read_utf8
from fashion_ml.runtime.language import marked, tr, translated

HEADER = "step,epoch,total_loss,visual_loss,fashion_clip_loss,color_loss,learning_rate,timestamp"
IMAGE_LOSSES = ("visual_loss", "fashion_clip_loss", "color_loss")
NOT_MEASURED = "N/A"
_FEWEST = 20
"""Steps that a mean of the last ones is over, where there are so many: a step's loss is that of one batch and of one draw of noise."""
_MOST_BYTES = 1 << 30
"""Of a log: ten million rows."""
_EXPLANATION = marked(
    "# Losses of a LoRA training. total_loss: the training objective (noise prediction error) of this step's images.\n"
    "# visual_loss, fashion_clip_loss, color_loss: image metrics. Training makes no images, so they do not exist here: N/A.\n"
    "# Evaluation measures them afterwards, on images really generated; step and epoch count from 1.\n"
)


@dataclass(frozen=True)
class LossRow:
    """One row; None where nothing was measured. `epoch`, `learning_rate` and `timestamp` are None in the older simple form."""

    step: int
    total_loss: float | None
    epoch: int | None = None
    visual_loss: float | None = None
    fashion_clip_loss: float | None = None
    color_loss: float | None = None
    learning_rate: float | None = None
    timestamp: str | None = None


def recent_mean(values: Sequence[float]) -> tuple[float, int]:
    """The mean of the last tenth of a series of steps, of 20 at least where there are so many, and how many that were; not of an empty one."""
    last = values[-max(len(values) // 10, _FEWEST) :]
    return math.fsum(last) / len(last), len(last)


class LossLog:
    """Appends rows, flushed one by one, so that a crash keeps what was written."""

    def __init__(self, path: Path, after_step: int = 0):
        """Begin a new log, or with `after_step` go on with the one at `path`, from which the rows of later steps are taken out."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        if after_step and path.exists():
            kept = [line for line in read_utf8(path, "utf-8", _MOST_BYTES).splitlines() if _belongs(line, after_step)]
            write_text(path, "\n".join(kept) + "\n")
        else:
            write_text(path, f"{translated(_EXPLANATION)}{HEADER}\n")
        self._file = path.open("a", encoding="utf-8")

    def write(
        self, step: int, epoch: int, total_loss: float, learning_rate: float, time: float | None = None, **image_losses: float
    ) -> None:
        """Append the row of a step that ended at `time` (seconds since 1970, now by default); an image loss that is not given is N/A."""
        ended = datetime.now() if time is None else datetime.fromtimestamp(time)
        stamp = ended.isoformat(timespec="microseconds")
        images = ",".join(f"{image_losses[name]:.6f}" if name in image_losses else NOT_MEASURED for name in IMAGE_LOSSES)
        self._file.write(f"{step},{epoch},{total_loss:.6f},{images},{learning_rate:.10g},{stamp}\n")
        self._file.flush()

    def close(self) -> None:
        """Sync and close."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _belongs(line: str, last_step: int) -> bool:
    """A comment, the header, or a whole row of a step up to the last."""
    cells = line.split(",")
    return not cells[0].isdigit() or (int(cells[0]) <= last_step and len(cells) == len(HEADER.split(",")))


def read_loss_log(path: Path) -> list[LossRow]:
    """Rows of a log in today's form or the older `step,loss`; a last line cut short by a crash is left out.

    ValueError, with the line number, for any other line that is no row.
    """
    rows: list[LossRow] = []
    names: list[str] | None = None
    lines = read_utf8(path, "utf-8", _MOST_BYTES).splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        cells = [cell.strip() for cell in text.split(",")]
        if cells[0] == "step":
            names = ["total_loss" if name == "loss" else name for name in cells]
            if doubled := [name for name in names if names.count(name) > 1]:
                raise ValueError(
                    tr("line {number} of {path}: it names the column {name} twice", number=number, path=path, name=doubled[0])
                )
            continue
        try:
            rows.append(_row(dict(zip(names or ["step", "total_loss"], cells, strict=True))))
        except (ValueError, KeyError):
            if number == len(lines) and not line.endswith("\n"):
                break
            raise ValueError(
                tr(
                    "line {number} of {path}: {text!r} is not a row of {names}",
                    number=number,
                    path=path,
                    text=text,
                    names=",".join(names or ["step", "loss"]),
                )
            ) from None
    return rows


def _row(cells: dict[str, str]) -> LossRow:
    def number(name: str) -> float | None:
        text = cells.get(name, NOT_MEASURED)
        return None if text == NOT_MEASURED else _finite(text)

    return LossRow(
        step=int(cells["step"]),
        total_loss=number("total_loss"),
        epoch=int(cells["epoch"]) if "epoch" in cells else None,
        visual_loss=number("visual_loss"),
        fashion_clip_loss=number("fashion_clip_loss"),
        color_loss=number("color_loss"),
        learning_rate=number("learning_rate"),
        timestamp=cells.get("timestamp"),
    )


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
