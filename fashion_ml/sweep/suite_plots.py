"""Plots of a suite: every training as a dot, every recipe as an interval, every difference beside 0; and one prompt over recipes and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from fashion_ml.evaluation.figures import comparison_grid, save_picture
from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.label_font import CHINESE

if TYPE_CHECKING:
    from fashion_ml.evaluation.suites import SuiteComparison

_COLOURS = {"better": "#0072b2", "worse": "#d55e00", "not shown": "#555b66", "": "#555b66"}
"""Of Okabe & Ito 2008, told apart by colour-blind eyes; the words stand beside them too."""
_MARKS = {"better": "o", "worse": "s", "not shown": "D", "": "D"}
_DOT = "#23252b"
_INCHES, _OF_ROW, _AROUND = 5.2, 0.6, 1.3
_OF_LETTER = 0.085
"""Narrow, so that letters can be read on a telephone."""


def save_recipes(path: Path, found: SuiteComparison) -> None:
    """The primary metric of every recipe: a dot for each training seed, the mean with its interval, the baseline's mean as a line."""
    names = list(found.scores)
    figure, axes = _figure(names, [_row_name(found, name) for name in names])
    primary = found.primary()
    axes.axvline(found.scores[found.baseline][found.metric].mean.mean, color="#9aa3af", linestyle=(0, (4, 3)), zorder=0)
    for row, name in enumerate(names):
        score = found.scores[name][found.metric]
        verdict = primary[name].difference.verdict if name in primary else ""
        colour = _COLOURS[verdict]
        if score.mean.ends:
            axes.plot(score.mean.ends, [row, row], color=colour, linewidth=7, alpha=0.3, solid_capstyle="butt")
        axes.plot(score.mean.mean, row, _MARKS[verdict], color=colour, markersize=9)
        spots = _beside_each_other(list(score.by_seed.values()), row)
        axes.plot(
            list(score.by_seed.values()), spots, "o", color=_DOT, markersize=5, markerfacecolor="white", markeredgewidth=1.4
        )
    axes.set_xlabel(f"{found.metric} ({found.better} is better {'→' if found.better == 'higher' else '←'})\n")
    axes.set_title(
        "Ring: one training. Mark: the recipe; band: 95 %\nover other seeds and other references", fontsize=9, loc="left"
    )
    _save(figure, path)


def save_gains(path: Path, found: SuiteComparison) -> None:
    """The difference of every recipe to the baseline with its interval, 0 marked, and the verdict in words."""
    primary = found.primary()
    names = list(primary)
    figure, axes = _figure(names, names)
    axes.axvline(0, color="#23252b", linewidth=1.2, zorder=0)
    for row, name in enumerate(names):
        entry = primary[name].difference
        colour = _COLOURS[entry.verdict]
        if entry.gain.ends:
            axes.plot(entry.gain.ends, [row, row], color=colour, linewidth=3)
        axes.plot(entry.gain.mean, row, _MARKS[entry.verdict], color=colour, markersize=9)
        axes.annotate(
            entry.verdict or "no verdict",
            (entry.gain.mean, row),
            (0, 10),
            textcoords="offset points",
            ha="center",
            color=colour,
        )
    axes.set_xlabel(
        f"gain in {found.metric} over {_no_formula(found.baseline)}\n(right is better →)",
        fontfamily=_families([found.baseline]),
    )
    axes.set_title(f"On the same references; bars over seeds and\nreferences: {confidences(found)}", fontsize=9, loc="left")
    _save(figure, path)


def confidences(found: SuiteComparison) -> str:
    """Of the gains' intervals: `95 %`, or `97.5 to 98.3 %` where recipes or looks ask for more."""
    ends = sorted({f"{100 * one.confidence:.3g}" for one in found.primary().values() if one.difference.gain.ends}, key=float)
    return " to ".join(dict.fromkeys([ends[0], ends[-1]])) + " %" if ends else "none yet"


def save_pictures(path: Path, pictures: Mapping[str, Mapping[str, Image.Image]], seeds: Sequence[str]) -> None:
    """One prompt: a row for each recipe, a column for each seed; where a training has no picture the place is empty."""
    empty = Image.new("RGB", next(iter(next(iter(pictures.values())).values())).size, "#eef0f4")
    rows = [(name, [own.get(seed, empty) for seed in seeds]) for name, own in pictures.items()]
    save_picture(path, comparison_grid(rows, [f"seed {seed}" for seed in seeds], columns=1, cell=150))


def _row_name(found: SuiteComparison, name: str) -> str:
    return f"{name}\n(baseline)" if name == found.baseline else name


def _families(texts: Sequence[str]) -> list[str]:
    """The fonts that the texts take: beside matplotlib's own, for names in Chinese, the one that comes with the package."""
    import gzip

    import matplotlib as mpl
    from matplotlib import font_manager

    usual = list(mpl.rcParams["font.family"])
    if all(ord(letter) < 0x2E80 for text in texts for letter in text):
        return usual
    path = Path(mpl.get_cachedir()) / "fashion_ml_chinese.ttf"
    if not path.is_file():
        with atomic_path(path) as temporary:
            temporary.write_bytes(gzip.decompress(CHINESE.read_bytes()))
    font_manager.fontManager.addfont(str(path))
    return [*usual, font_manager.FontProperties(fname=path).get_name()]


def _figure(names: Sequence[str], labels: Sequence[str]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    height = _AROUND + _OF_ROW * len(names)
    wrapped = [_wrapped(label) for label in labels]
    widest = max(len(line) for label in wrapped for line in label.splitlines())
    left = 0.03 + max(_OF_LETTER * widest, 0.6) / _INCHES
    figure = Figure(figsize=(_INCHES, height))  # fixed margins: a layout engine draws everything twice
    figure.subplots_adjust(left=left, right=0.96, bottom=0.7 / height, top=1 - 0.48 / height)
    axes = figure.subplots()
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), [_no_formula(label) for label in wrapped], fontfamily=_families(labels))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25)
    axes.locator_params(axis="x", nbins=5)
    return figure, axes


def _no_formula(text: str) -> str:
    """The text as it is: between two dollars matplotlib reads a formula."""
    return text.replace("$", r"\$")


def _wrapped(label: str) -> str:
    import textwrap

    return "\n".join("\n".join(textwrap.wrap(line, 20)[:3]) for line in label.splitlines())


def _beside_each_other(values: Sequence[float], row: int) -> list[float]:
    """Heights of dots that would else lie on each other: the seeds of a recipe a little below one another."""
    middle = (len(values) - 1) / 2
    return [row + 0.07 * (number - middle) for number in range(len(values))]


def _save(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
