"""The house style of every figure: few colours that colour-blind eyes tell apart, a title that says what was found, text in any script."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.label_font import font_file, runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, RULES, PAPER = "#16181d", "#4a4d55", "#e3e6ec", "#ffffff"
"""Text, lesser text, grid lines, background."""
BLUE, ORANGE, SKY, GREY = "#0b4f9c", "#c2570c", "#4fb3e8", "#73757b"
LINES = (BLUE, ORANGE, INK, SKY)
"""Lines and marks of one axis, in this order; GREY is the level that something is held against, such as the base. Any two of the five differ by
20 or more (CIEDE2000) for normal sight and for deuteranopia and protanopia, simulated by Machado, Oliveira & Fernandes 2009."""
LEVEL = (0, (5, 3))
"""Dashes of a level."""
SIDES = {"base": GREY, "LoRA": BLUE, "generated": BLUE, "reference": BLUE, "latent": ORANGE}
"""By what an evaluation calls its sides."""
MARKS = ("o", "s", "D", "^")
"""Of several groups of points on one axis, beside their colours."""
DPI = 110
_TITLE, _TEXT = 11.5, 9.5
_LETTERS_OF_INCH = 10.5
"""Letters of a title that stand on an inch."""
_BELOW = 36
"""Points from an axis down to the names below it: past ticks and label."""
_FORMULA = r"\mathdefault"
"""What the ticks of a logarithmic axis are made of."""


def new_figure(width: float, height: float, *, title: str = "") -> Figure:
    """An empty figure of so many inches that lays out itself, under a title that says what was found."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08), facecolor=PAPER)
    FigureCanvasAgg(figure)
    if title:
        set_title(figure, title)
    return figure


def set_title(figure: Figure, title: str) -> None:
    """Put a figure under what was found."""
    text = wrapped(title, figure.get_figwidth() * _LETTERS_OF_INCH)
    figure.suptitle(text, x=0.01, ha="left", fontsize=_TITLE, fontweight="bold", color=INK)


def dress(axes: Axes, *, title: str = "", x: str = "", y: str = "", whole_x: bool = False, whole_y: bool = False) -> None:
    """An axis as all are: what it shows, what its sides are in which unit, faint rules behind; `whole_…` has whole numbers alone."""
    from matplotlib.ticker import MaxNLocator

    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(color=RULES, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=_TEXT, colors=SOFT)
    if title:
        inches = axes.bbox.width / axes.figure.dpi
        text = "\n".join(wrapped(line, max(inches, 2.0) * _LETTERS_OF_INCH * 1.4) for line in title.split("\n"))
        axes.set_title(text, loc="left", fontsize=_TEXT + 0.5, color=INK)
    if x:
        axes.set_xlabel(x, fontsize=_TEXT, color=INK)
    if y:
        axes.set_ylabel(y, fontsize=_TEXT, color=INK)
    for axis, whole in ((axes.xaxis, whole_x), (axes.yaxis, whole_y)):
        if whole:
            axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def wrapped(text: str, letters: float) -> str:
    """A text in lines of so many letters; one in Chinese, whose letters are twice as wide and have no spaces, breaks anywhere."""
    lines, line, used = [], "", 0
    for word in re.findall(r"[\u2e80-\uffef]|[^\s\u2e80-\uffef]+\s*|\s+", text):
        wide = sum(2 if letter >= "\u2e80" else 1 for letter in word.rstrip())
        if line and used + wide > letters:
            lines.append(line.rstrip())
            line, used = "", 0
        line += word
        used += wide + len(word) - len(word.rstrip())
    return "\n".join([*lines, line.rstrip()])


def level(axes: Axes, value: float, label: str) -> None:
    """A dashed line across at the height of what a curve is held against, named at its left end."""
    axes.axhline(value, color=GREY, linewidth=1.3, linestyle=LEVEL, zorder=1.5)
    axes.annotate(
        label, (0, value), (4, 3), xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=8.5, color=GREY
    )


def name_below(axes: Axes, *, columns: int = 4) -> None:
    """The names of what is drawn, under the axis, where no line and no bar is; nothing where it is one thing, which the title names."""
    from matplotlib.transforms import ScaledTranslation

    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > 1:
        below = axes.transAxes + ScaledTranslation(0, -_BELOW / 72, axes.figure.dpi_scale_trans)
        axes.legend(
            handles, labels, frameon=False, fontsize=8.5, ncols=min(columns, len(labels)), loc="upper left",
            bbox_to_anchor=(0, 0), bbox_transform=below, borderaxespad=0, handlelength=1.6, columnspacing=1.2,
        )  # fmt: skip


def save_figure(path: Path, figure: Figure, *, dpi: int = DPI) -> None:
    """Write a PNG atomically; text in scripts that the usual font lacks is drawn by fonts that have them, and `$` is a dollar."""
    fit_text(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png")


def fit_text(figure: Figure) -> None:
    """Give every text of a figure fonts that have its characters; what no font has is written as its name or number."""
    from matplotlib.text import Text

    ticks = [label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()]
    known: dict[str, Any] = {}
    for text in [*figure.findobj(Text), *ticks]:
        said = text.get_text()
        if not said or _FORMULA in said:
            continue
        text.set_parse_math(False)
        if said.isascii():
            continue
        lines = [runs(line) for line in said.split("\n")]
        text.set_text("\n".join("".join(part for _, part in line) for line in lines))
        families = _families({file for line in lines for file, _ in line if file}, known)
        if families:
            text.set_fontfamily([*text.get_fontfamily(), *families])
            text.set_fontweight("normal")  # what these fonts have; matplotlib complains of each bold one that it does not find


def _families(files: Iterable[str], known: dict[str, Any]) -> list[str]:
    """The names by which matplotlib calls fonts' files."""
    from matplotlib import font_manager

    for file in files:
        if file not in known:
            path = font_file(file)
            font_manager.fontManager.addfont(path)
            known[file] = font_manager.FontProperties(fname=path).get_name()
    return [known[file] for file in sorted(files)]
