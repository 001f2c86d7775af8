"""training_log.jsonl, loss_curves.png and the report of a StarGAN training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fashion_ml.losses.stargan import DS_EVERY
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.figure_style import GREY, INK, LINES, dress, level, name_below, new_figure, save_figure
from fashion_ml.runtime.input_file import read_utf8
from fashion_ml.runtime.json_file import parsed_mapping
from fashion_ml.runtime.language import tr

SERIES = ("d_loss", "g_loss", "g_adv", "sty", "ds", "cyc", "id", "r1", "lambda_ds")
_NO_SKILL, _NEAR, _EPOCHS = 2.0, 0.1, 5
_COLLAPSE, _SAME = 0.25, 0.02
_MOST_BYTES = 1 << 30
"""Of a log: two million epochs."""


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
    lines = read_utf8(path, "utf-8", _MOST_BYTES).splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            tree = parsed_mapping(line)
        except ValueError:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise ValueError(tr("line {number} of {path} is no JSON", number=number, path=path)) from None
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
        found.setdefault(_HINGE, []).append((row["epoch"], row["d_loss"] - penalty))
        if "r1" in row:
            found.setdefault(_PENALTY, []).append((row["epoch"], penalty))
        if "ds" in row:
            found.setdefault("−lambda_ds · ds", []).append((row["epoch"], 0.0 - row["lambda_ds"] * row["ds"]))
    return found


_HINGE, _PENALTY = "hinge of d_loss", "w_r1 · r1_interval · r1"
_PANELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Discriminator", ("d_loss", _HINGE, _PENALTY)),
    ("Generator", ("g_loss", "g_adv")),
    ("What is kept", ("sty", "cyc", "id")),
    ("Variety of styles", ("ds", "lambda_ds")),
    ("Gradient penalty", ("r1",)),
)


def _heads() -> dict[str, str]:
    """What stands over the panels, in the language."""
    return {
        "Discriminator": tr("Discriminator"),
        "Generator": tr("Generator"),
        "What is kept": tr("What is kept"),
        "Variety of styles": tr("Variety of styles"),
        "Gradient penalty": tr("Gradient penalty"),
    }


def write_curves(path: Path, rows: Sequence[Mapping[str, float]], weights: Mapping[str, float], r1_weight: float) -> None:
    """Draw the raw terms, few to a panel, and last what each contributes to g_loss, where lambda_ds * ds is seen to fade."""
    figure = new_figure(13.5, 8, title=found(rows, r1_weight))
    parts = contributions(rows, weights, r1_weight)
    *panels, last = figure.subplots(2, 3).flat
    for axes, (head, names) in zip(panels, _PANELS, strict=True):
        raw = {name: [(row["epoch"], row[name]) for row in rows if name in row] for name in names}
        lines = {name: raw[name] or parts.get(name, []) for name in names}
        _lines(axes, {name: points for name, points in lines.items() if points})
        if _HINGE in names:
            level(axes, _NO_SKILL, tr("no skill: 2"))
        told = {name: points for name, points in lines.items() if name in SERIES}
        dress(axes, title=f"{_heads()[head]}: {_ends(told)}", x="epoch", y=tr("mean of the epoch's steps"), whole_x=True)
        name_below(axes)
    _lines(last, {name: points for name, points in parts.items() if name not in (_HINGE, _PENALTY)})
    last.axhline(0, color=INK, linewidth=0.8)
    dress(last, title=tr("What each adds to g_loss"), x="epoch", y=tr("weight times value"), whole_x=True)
    name_below(last, columns=3)
    save_figure(path, figure)


def _lines(axes: Any, lines: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    axes.margins(y=0.1)
    for (name, points), colour, style in zip(lines.items(), (*LINES, GREY), ("-", "--", "-.", ":", "-"), strict=False):
        label = tr("hinge of d_loss") if name == _HINGE else name
        axes.plot(*zip(*points, strict=True), label=label, color=colour, linewidth=1.8, linestyle=style)
        if len(points) == 1:
            axes.plot(*points[0], "o", color=colour, markersize=5)


def _ends(lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Where each line begins and ends."""
    told = [
        tr("{name} {points:.3g} to {points_2:.3g}", name=name, points=points[0][1], points_2=points[-1][1])
        for name, points in lines.items()
        if points
    ]
    return tr(", ").join(told) or tr("not computed")


def found(rows: Sequence[Mapping[str, float]], r1_weight: float) -> str:
    """What the curves say, in one line."""
    if not rows:
        return tr("No epoch has ended")
    first, last = rows[0], rows[-1]
    hinge = last["d_loss"] - r1_weight * last.get("r1", 0.0)
    said = tr(
        "Epoch {epoch:.0f}: d_loss without its penalty is {hinge:.2f}, where 2 separates nothing",
        epoch=last["epoch"],
        hinge=hinge,
    )
    if "cyc" in last and "cyc" in first:
        said += tr("; the way there and back loses {cyc:.3f} (cyc, {cyc_2:.3f} at first)", cyc=last["cyc"], cyc_2=first["cyc"])
    return said


def reading_help(rows: Sequence[Mapping[str, float]], w_r1: float, r1_interval: int) -> list[str]:
    """What the measured curves say, as far as they say anything."""
    said = []
    penalty = [w_r1 * r1_interval * row.get("r1", 0.0) for row in rows]
    hinge = [row["d_loss"] - part for row, part in zip(rows, penalty, strict=True)]
    streak = _longest([abs(value - _NO_SKILL) <= _NEAR for value in hinge])
    if streak >= _EPOCHS:
        said.append(
            tr(
                "d_loss without the penalty stayed within {near} of {no_skill:.0f} for {streak} epochs: that is the "
                "value of a discriminator that does not separate.",
                near=_NEAR,
                no_skill=_NO_SKILL,
                streak=streak,
            )
        )
    active = [row["ds"] for row in rows if "ds" in row and row["lambda_ds"] > 0]
    if len(active) >= 2 and max(active) > 0 and active[-1] < _COLLAPSE * max(active):
        said.append(
            tr(
                "ds fell from {active:.3f} to {active_2:.3f} while lambda_ds was above 0: styles of one domain look "
                "alike, mode collapse.",
                active=max(active),
                active_2=active[-1],
            )
        )
    elif len(active) >= _EPOCHS and max(active) < _SAME:
        said.append(
            tr(
                "ds never reached {same} while lambda_ds was above 0 (scaled latents differ by about 1): styles of "
                "one domain look alike; a larger lr_mapping or w_ds separates them.",
                same=_SAME,
            )
        )
    heavy = sum(part > value for part, value in zip(penalty, hinge, strict=True))
    if heavy > len(rows) / 2:
        said.append(
            tr("w_r1 * r1 exceeds the hinge terms in most epochs; a smaller w_r1 leaves the discriminator more freedom.")
        )
    if after := [row["epoch"] for row in rows if "ds" in row and row["lambda_ds"] == 0]:
        said.append(
            tr(
                "From epoch {after:.0f} on lambda_ds is 0; ds is then the mean of the first step of an epoch and "
                "every {ds_every}th after it, without gradients.",
                after=after[0],
                ds_every=DS_EVERY,
            )
        )
    said.append(tr("A falling g_loss alone says nothing: it holds -lambda_ds * ds. The evaluation comes first."))
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
