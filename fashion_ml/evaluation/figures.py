"""Grids, pairs, histograms and curves of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from fashion_ml.evaluation.words import word
from fashion_ml.metrics.registry import metric_of
from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.figure_style import BLUE, INK, ORANGE, PAPER, SIDES, dress, level, new_figure, save_figure
from fashion_ml.runtime.label_font import LabelFont
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    import pandas as pd

_LINE = 22
"""Pixels from one line of a title to the next."""


def comparison_grid(
    rows: Sequence[tuple[str, Sequence[Image.Image]]],
    heads: Sequence[str],
    *,
    columns: int = 2,
    cell: int = 160,
    title: str = "",
) -> Image.Image:
    """One row of pictures for each caption under `heads`, in `columns` blocks below a title; small pictures are enlarged unsmoothed."""
    columns = min(columns, len(rows))
    per_block, width = -(-len(rows) // columns), len(heads)
    head, label, gap, rim = 34, 26, 4, 14
    block = width * (cell + gap) + 2 * rim
    bold, small = LabelFont(16), LabelFont(14)
    said = bold.lines(title, columns * block - 2 * rim) if title else []
    top = len(said) * _LINE + (rim if said else 0) + head
    sheet = Image.new("RGB", (columns * block, top + per_block * (cell + label) + rim), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(said):
        bold.draw(draw, (rim, rim + number * _LINE), line, INK)
    for number in range(columns):
        for index, text in enumerate(heads):
            x = number * block + rim + index * (cell + gap)
            bold.draw(draw, (x + cell / 2, top - head / 2), bold.shortened(text, cell), INK, "mm")
    for index, (caption, pictures) in enumerate(rows):
        x, y = index // per_block * block + rim, top + index % per_block * (cell + label)
        for place, picture in enumerate(pictures):
            fitted = _fitted(picture, cell)
            left = x + place * (cell + gap) + (cell - fitted.width) // 2
            sheet.paste(fitted, (left, y + (cell - fitted.height) // 2))
        small.draw(draw, (x, y + cell + label / 2), small.shortened(caption, width * cell), INK, "lm")
    return sheet


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a PNG atomically."""
    with atomic_path(path) as temporary:
        picture.save(temporary, format="png")


def save_histogram(path: Path, metric: str, values: Mapping[str, pd.Series]) -> None:
    """Distributions of a metric over the images of each side, by its name (`base`, `LoRA`, `generated`), one below the other on one scale.

    Where there are two sides their values are of the same images, in the same order.
    """
    shown = {name: values[name] for name in reversed(list(values))}
    figure = new_figure(7.2, 1.1 + 1.65 * len(shown), title=_said_of(metric, values))
    panels = figure.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    low, high = min(side.min() for side in shown.values()), max(side.max() for side in shown.values())
    edges = [low + (high - low + 1e-9) * i / 20 for i in range(21)]
    for axes, (name, side) in zip(panels, shown.items(), strict=True):
        axes.hist(side.dropna(), bins=edges, color=SIDES[name], edgecolor=PAPER, linewidth=0.6, alpha=0.9)
        axes.axvline(side.mean(), color=INK, linewidth=1.8)
        dress(
            axes,
            title=tr("{name}: {count} images, mean {mean:.3f} (line)", name=word(name), count=side.count(), mean=side.mean()),
            y=tr("number of images"),
            whole_y=True,
        )
    row = metric_of(metric)
    unit = f", {row.unit}" if row.unit else ""
    panels[-1].set_xlabel(
        f"{metric}{unit}{tr(' ({better} is better)', better=word(row.better)) if row.better else ''}", fontsize=9.5, color=INK
    )
    save_figure(path, figure)


def _said_of(metric: str, values: Mapping[str, pd.Series]) -> str:
    """What the sides' values say of each other: how many images the first one is better in than the second."""
    import pandas as pd

    (name, side), *others = values.items()
    better = metric_of(metric).better
    if not others or not better:
        return tr(
            "{metric} is {mean:.3f} in the mean, {min:.3f} to {max:.3f}",
            metric=metric,
            mean=side.mean(),
            min=side.min(),
            max=side.max(),
        )
    other, against = others[0]
    both = pd.concat([side.reset_index(drop=True), against.reset_index(drop=True)], axis=1).dropna()
    ahead = int(((both.iloc[:, 0] - both.iloc[:, 1]) * (1 if better == "higher" else -1) > 0).sum())
    return tr(
        "{metric}: {name} {mean:.3f}, {other} {mean_2:.3f}; {name} is better in {ahead} of {count} images",
        metric=metric,
        name=word(name),
        mean=side.mean(),
        other=word(other),
        mean_2=against.mean(),
        ahead=ahead,
        count=len(both),
    )


def save_curves(
    path: Path,
    x: Sequence[float],
    xlabel: str,
    curves: Mapping[str, Sequence[float]],
    *,
    title: str = "",
    base: Mapping[str, float] | None = None,
) -> None:
    """A line for each metric over LoRA strengths or the like, each in a panel of its own, the lowest point marked, the base's level dashed."""
    figure = new_figure(max(3.1 * len(curves), 5), 3.4, title=title)
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (name, values) in zip(panels, curves.items(), strict=True):
        low = min(range(len(values)), key=lambda index: values[index])
        if base and name in base:
            level(axes, base[name], tr("base {base:.3f}", base=base[name]))
        axes.plot(x, values, "o-", color=BLUE, markersize=4, linewidth=1.8)
        axes.plot(x[low], values[low], "D", color=ORANGE, markersize=7)
        dress(axes, title=tr("{name}\nlowest {values:.3f} at {x:g}", name=name, values=values[low], x=x[low]), x=xlabel)
    panels[0].set_ylabel(tr("loss (lower is better)"), fontsize=9.5, color=INK)
    save_figure(path, figure)


def _fitted(picture: Image.Image, cell: int) -> Image.Image:
    scale = cell / max(picture.size)
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return picture.resize((max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)), method)
