"""Grids, pairs, histograms and curves of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw

from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.label_font import LabelFont

_INK, _PAPER = (40, 40, 46), (255, 255, 255)
COLOURS = {"base": "#9aa3af", "LoRA": "#1f4e8c", "generated": "#1f4e8c", "reference": "#1f4e8c", "latent": "#d08a2e"}


def comparison_grid(
    rows: Sequence[tuple[str, Sequence[Image.Image]]], heads: Sequence[str], *, columns: int = 2, cell: int = 160
) -> Image.Image:
    """One row of pictures for each caption under `heads`, laid out in `columns` blocks; small pictures are enlarged unsmoothed."""
    columns = min(columns, len(rows))
    per_block, width = -(-len(rows) // columns), len(heads)
    head, label, gap, rim = 34, 26, 4, 14
    block = width * (cell + gap) + 2 * rim
    sheet = Image.new("RGB", (columns * block, head + per_block * (cell + label) + rim), _PAPER)
    draw = ImageDraw.Draw(sheet)
    title, small = LabelFont(16), LabelFont(14)
    for number in range(columns):
        for index, text in enumerate(heads):
            x = number * block + rim + index * (cell + gap)
            title.draw(draw, (x + cell / 2, head / 2), title.shortened(text, cell), _INK, "mm")
    for index, (caption, pictures) in enumerate(rows):
        x, y = index // per_block * block + rim, head + index % per_block * (cell + label)
        for place, picture in enumerate(pictures):
            fitted = _fitted(picture, cell)
            left = x + place * (cell + gap) + (cell - fitted.width) // 2
            sheet.paste(fitted, (left, y + (cell - fitted.height) // 2))
        small.draw(draw, (x, y + cell + label / 2), small.shortened(caption, width * cell), _INK, "lm")
    return sheet


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a PNG atomically."""
    with atomic_path(path) as temporary:
        picture.save(temporary, format="png")


def save_histogram(path: Path, metric: str, values: Mapping[str, pd.Series]) -> None:
    """Distributions of a metric over the images of each side, by its name (`base`, `LoRA`, `generated`)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4))  # fixed margins: a layout engine draws everything twice
    figure.subplots_adjust(left=0.1, right=0.98, bottom=0.13, top=0.96)
    axes = figure.subplots()
    low, high = min(side.min() for side in values.values()), max(side.max() for side in values.values())
    edges = [low + (high - low + 1e-9) * i / 20 for i in range(21)]
    for name, side in values.items():
        axes.hist(side.dropna(), bins=edges, alpha=0.65, color=COLOURS[name], label=f"{name}, mean {side.mean():.3f}")
    axes.set(xlabel=metric, ylabel="images")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def save_curves(path: Path, x: Sequence[float], xlabel: str, curves: Mapping[str, Sequence[float]]) -> None:
    """A line for each metric over checkpoints' steps or LoRA strengths, each in a panel of its own, the best point marked (lowest)."""
    from matplotlib.figure import Figure

    inches = 4 * len(curves)
    figure = Figure(figsize=(inches, 3.4))
    figure.subplots_adjust(left=0.65 / inches, right=1 - 0.1 / inches, bottom=0.15, top=0.85, wspace=0.22)
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (name, values) in zip(panels, curves.items(), strict=True):
        axes.plot(x, values, "o-", color="#1f4e8c", markersize=4)
        low = min(range(len(values)), key=lambda index: values[index])
        axes.plot(x[low], values[low], "o", color="#c2410c", markersize=7)
        axes.set_title(f"{name}\nlowest {values[low]:.4f} at {x[low]:g}", fontsize=10, loc="left")
        axes.set(xlabel=xlabel)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _fitted(picture: Image.Image, cell: int) -> Image.Image:
    scale = cell / max(picture.size)
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return picture.resize((max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)), method)
