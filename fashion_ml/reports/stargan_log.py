"""training_log.jsonl, loss_curves.png and the report of a StarGAN training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fashion_ml.runtime.atomic_files import atomic_path, write_text

SERIES = ("d_loss", "g_loss", "g_adv", "sty", "ds", "cyc", "id", "r1", "lambda_ds")
_NO_SKILL, _NEAR, _EPOCHS = 2.0, 0.1, 5
_COLLAPSE, _SAME = 0.25, 0.02


class EpochLog:
    """A line of JSON for each epoch; what was not computed is null. A resumed training goes on behind the epochs it had finished."""

    def __init__(self, path: Path, after_epoch: int = 0):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.rows = [row for row in (read_epochs(path) if path.exists() else []) if row["epoch"] <= after_epoch]
        write_text(path, "".join(_line(row) for row in self.rows))

    def write(self, row: Mapping[str, float]) -> None:
        """Append an epoch and flush."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(row))


def _line(row: Mapping[str, float]) -> str:
    whole = {"epoch": int(row["epoch"]), **{name: row.get(name) for name in SERIES}}
    return json.dumps({**whole, **{key: value for key, value in row.items() if key not in whole}}) + "\n"


def read_epochs(path: Path) -> list[dict[str, float]]:
    """The epochs of a log, without what is null; a last line cut short by a crash is left out. ValueError for any other bad line."""
    rows = []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            tree = json.loads(line)
        except ValueError:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise ValueError(f"line {number} of {path} is no JSON") from None
        rows.append({key: float(value) for key, value in tree.items() if value is not None})
    return rows


def contributions(
    rows: Sequence[Mapping[str, float]], weights: Mapping[str, float], r1_weight: float
) -> dict[str, list[tuple[float, float]]]:
    """Each term's share of the losses over the epochs, as (epoch, value) pairs.

    Of g_loss: weight times value, for ds minus lambda_ds times ds. Of d_loss: the hinge, and r1 times `r1_weight`, w_r1 * r1_interval.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, weight in weights.items():
            if name in row:
                found.setdefault(f"w_{name} · {name}", []).append((row["epoch"], weight * row[name]))
        penalty = r1_weight * row.get("r1", 0.0)
        found.setdefault("hinge of d_loss", []).append((row["epoch"], row["d_loss"] - penalty))
        if "r1" in row:
            found.setdefault("w_r1 · r1_interval · r1", []).append((row["epoch"], penalty))
        if "ds" in row:
            found.setdefault("−lambda_ds · ds", []).append((row["epoch"], -row["lambda_ds"] * row["ds"]))
    return found


def write_curves(path: Path, rows: Sequence[Mapping[str, float]], weights: Mapping[str, float], r1_weight: float) -> None:
    """Draw the raw terms, and in a second panel what each contributes to the losses, where lambda_ds * ds is seen to fade."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 5.5))  # fixed margins: a layout engine draws everything twice
    figure.subplots_adjust(left=0.045, right=0.99, bottom=0.095, top=0.94, wspace=0.1)
    raw, weighted = figure.subplots(1, 2)
    for name in SERIES:
        points = [(row["epoch"], row[name]) for row in rows if name in row]
        if points:
            raw.plot(*zip(*points, strict=True), label=name, linewidth=1.4, linestyle="--" if name == "lambda_ds" else "-")
    for name, points in contributions(rows, weights, r1_weight).items():
        weighted.plot(*zip(*points, strict=True), label=name, linewidth=1.4)
    raw.axhline(_NO_SKILL, color="0.6", linewidth=0.8, linestyle=":")
    raw.set_title("Terms, mean of each epoch (dotted: d_loss of a discriminator without skill)", loc="left", fontsize=10)
    weighted.set_title("What each term contributes", loc="left", fontsize=10)
    for axes in (raw, weighted):
        axes.set(xlabel="epoch")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8, ncols=2)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def reading_help(rows: Sequence[Mapping[str, float]], w_r1: float, r1_interval: int) -> list[str]:
    """What the measured curves say, as far as they say anything."""
    said = []
    penalty = [w_r1 * r1_interval * row.get("r1", 0.0) for row in rows]
    hinge = [row["d_loss"] - part for row, part in zip(rows, penalty, strict=True)]
    streak = _longest([abs(value - _NO_SKILL) <= _NEAR for value in hinge])
    if streak >= _EPOCHS:
        said.append(
            f"d_loss without the penalty stayed within {_NEAR} of {_NO_SKILL:.0f} for {streak} epochs: that is the value of a discriminator "
            "that does not separate."
        )
    active = [row["ds"] for row in rows if "ds" in row and row["lambda_ds"] > 0]
    if len(active) >= 2 and max(active) > 0 and active[-1] < _COLLAPSE * max(active):
        said.append(
            f"ds fell from {max(active):.3f} to {active[-1]:.3f} while lambda_ds was above 0: styles of one domain look alike, mode collapse."
        )
    elif len(active) >= _EPOCHS and max(active) < _SAME:
        said.append(
            f"ds never reached {_SAME} while lambda_ds was above 0 (scaled latents differ by about 1): styles of one domain look alike; a "
            "larger lr_mapping or w_ds separates them."
        )
    heavy = sum(part > value for part, value in zip(penalty, hinge, strict=True))
    if heavy > len(rows) / 2:
        said.append("w_r1 * r1 exceeds the hinge terms in most epochs; a smaller w_r1 leaves the discriminator more freedom.")
    said.append("A falling g_loss alone says nothing: it holds -lambda_ds * ds. The evaluation comes first.")
    return said


def write_report(path: Path, rows: Sequence[Mapping[str, float]], facts: Mapping[str, Any], help_: Sequence[str]) -> None:
    """`stargan_report.json`: facts, reading help and the last epoch; what was not computed is null."""
    last = {name: rows[-1].get(name) for name in SERIES} if rows else None
    write_text(path, json.dumps({**facts, "reading_help": list(help_), "last_epoch": last}, indent=2, allow_nan=False) + "\n")


def _longest(flags: Sequence[bool]) -> int:
    best = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        best = max(best, run)
    return best
