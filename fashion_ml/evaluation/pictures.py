"""Grids and histograms of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from fashion_ml.checkpoint import atomic_path

_INK, _PAPER = (40, 40, 46), (255, 255, 255)


def comparison_grid(
    rows: Sequence[tuple[str, Image.Image, Image.Image, Image.Image]], *, columns: int = 2, cell: int = 160
) -> Image.Image:
    """Reference | base | LoRA, one row for each caption, laid out in `columns` blocks; small pictures are enlarged unsmoothed."""
    per_block = -(-len(rows) // columns)
    head, label, gap, rim = 34, 26, 4, 14
    block = 3 * (cell + gap) + 2 * rim
    sheet = Image.new("RGB", (columns * block, head + per_block * (cell + label) + rim), _PAPER)
    draw = ImageDraw.Draw(sheet)
    title, small = ImageFont.load_default(16), ImageFont.load_default(14)
    for number in range(columns):
        for index, text in enumerate(("reference", "base", "LoRA")):
            x = number * block + rim + index * (cell + gap)
            draw.text((x + cell / 2, head / 2), text, _INK, title, anchor="mm")
    for index, (caption, *pictures) in enumerate(rows):
        x, y = index // per_block * block + rim, head + index % per_block * (cell + label)
        for place, picture in enumerate(pictures):
            method = Image.Resampling.NEAREST if picture.width < cell else Image.Resampling.LANCZOS
            sheet.paste(picture.resize((cell, cell), method), (x + place * (cell + gap), y))
        draw.text((x, y + cell + label / 2), _shortened(caption, 3 * cell, small), _INK, small, anchor="lm")
    return sheet


def save_histogram(path: Path, metric: str, base: pd.Series, lora: pd.Series) -> None:
    """Distributions of a metric over the generated images, base and LoRA."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    low, high = min(base.min(), lora.min()), max(base.max(), lora.max())
    edges = [low + (high - low + 1e-9) * i / 20 for i in range(21)]
    for values, name, colour in ((base, "base", "#9aa3af"), (lora, "LoRA", "#1f4e8c")):
        axes.hist(values, bins=edges, alpha=0.65, color=colour, label=f"{name}, mean {values.mean():.3f}")
    axes.set(xlabel=metric, ylabel="images")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
