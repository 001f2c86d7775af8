"""Figures that stay white: drawing curves takes up to two thirds of a small run. They are written as ever, by the same operations on files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fashion_ml.runtime import figure_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

blank = False
"""Whether this process draws nothing."""


def draw_nothing(patch: Callable[[object, str, object], None] = setattr) -> None:
    """From now on what this process draws is white, and so is what processes that are forked for its studies draw."""
    from matplotlib.figure import Figure

    patch(figure_style, "fit_text", lambda figure: None)
    patch(Figure, "savefig", _savefig)
    patch(sys.modules[__name__], "blank", True)


def _savefig(figure: Figure, path: Path, *, format: str, dpi: float | None = None) -> None:
    from PIL import Image

    width, height = figure.get_size_inches() * (dpi or figure.dpi)
    Image.new("L", (round(width), round(height)), 255).save(path, format)
