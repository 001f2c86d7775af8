"""Plots of a suite: every training as a dot, every recipe as an interval, every difference beside 0; and one prompt over recipes and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from fashion_ml.evaluation.figures import comparison_grid, save_picture
from fashion_ml.evaluation.words import word
from fashion_ml.runtime.figure_style import BLUE, GREY, INK, LEVEL, MARKS, ORANGE, dress, new_figure, save_figure
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.evaluation.suites import SuiteComparison

_COLOURS = {"better": BLUE, "worse": ORANGE, "not shown": INK, "": INK}
"""The words stand beside them too."""
_MARKS = dict(zip(_COLOURS, (*MARKS[:3], MARKS[2]), strict=True))
_INCHES, _OF_ROW, _AROUND = 5.2, 0.6, 1.8
"""Narrow, so that letters can be read on a telephone."""


def save_recipes(path: Path, found: SuiteComparison) -> None:
    """The primary metric of every recipe: a dot for each training seed, the mean with its interval, the baseline's mean as a line."""
    names = list(found.scores)
    figure, axes = _figure(names, [_row_name(found, name) for name in names], _best_recipe(found))
    primary = found.primary()
    axes.axvline(found.scores[found.baseline][found.metric].mean.mean, color=GREY, linestyle=LEVEL, zorder=1.5)
    for row, name in enumerate(names):
        score = found.scores[name][found.metric]
        verdict = primary[name].difference.verdict if name in primary else ""
        colour = _COLOURS[verdict]
        if score.mean.ends:
            axes.plot(score.mean.ends, [row, row], color=colour, linewidth=7, alpha=0.3, solid_capstyle="butt")
        axes.plot(score.mean.mean, row, _MARKS[verdict], color=colour, markersize=9)
        spots = _beside_each_other(list(score.by_seed.values()), row)
        axes.plot(
            list(score.by_seed.values()), spots, "o", color=INK, markersize=5, markerfacecolor="white", markeredgewidth=1.4
        )
    axes.set_xlabel(
        tr(
            "{metric} ({better} is better {part})\n",
            metric=found.metric,
            better=word(found.better),
            part="→" if found.better == "higher" else "←",
        )
    )
    axes.set_title(
        tr("Ring: one training. Mark: the recipe; band: 95 %\nover other seeds and other references"), fontsize=9, loc="left"
    )
    save_figure(path, figure, dpi=150)


def save_gains(path: Path, found: SuiteComparison) -> None:
    """The difference of every recipe to the baseline with its interval, 0 marked, and the verdict in words."""
    primary = found.primary()
    names = list(primary)
    figure, axes = _figure(names, names, _verdicts(found))
    axes.axvline(0, color=GREY, linewidth=1.3, linestyle=LEVEL, zorder=1.5)
    for row, name in enumerate(names):
        entry = primary[name].difference
        colour = _COLOURS[entry.verdict]
        if entry.gain.ends:
            axes.plot(entry.gain.ends, [row, row], color=colour, linewidth=3)
        axes.plot(entry.gain.mean, row, _MARKS[entry.verdict], color=colour, markersize=9)
        axes.annotate(
            word(entry.verdict) or tr("no verdict"),
            (entry.gain.mean, row),
            (0, 10),
            textcoords="offset points",
            ha="center",
            color=colour,
        )
    axes.set_xlabel(tr("gain in {metric} over {baseline}\n(right is better →)", metric=found.metric, baseline=found.baseline))
    axes.set_title(
        tr("On the same references; bars over seeds and\nreferences: {confidences}", confidences=confidences(found)),
        fontsize=9,
        loc="left",
    )
    save_figure(path, figure, dpi=150)


def confidences(found: SuiteComparison) -> str:
    """Of the gains' intervals: `95 %`, or `97.5 to 98.3 %` where recipes or looks ask for more."""
    ends = sorted({f"{100 * one.confidence:.3g}" for one in found.primary().values() if one.difference.gain.ends}, key=float)
    return tr(" to ").join(dict.fromkeys([ends[0], ends[-1]])) + " %" if ends else tr("none yet")


def save_pictures(path: Path, pictures: Mapping[str, Mapping[str, Image.Image]], seeds: Sequence[str]) -> None:
    """One prompt: a row for each recipe, a column for each seed; where a training has no picture the place is empty."""
    empty = Image.new("RGB", next(iter(next(iter(pictures.values())).values())).size, "#eef0f4")
    rows = [(name, [own.get(seed, empty) for seed in seeds]) for name, own in pictures.items()]
    save_picture(path, comparison_grid(rows, [tr("seed {seed}", seed=seed) for seed in seeds], columns=1, cell=150))


def _row_name(found: SuiteComparison, name: str) -> str:
    return f"{name}\n({tr('baseline')})" if name == found.baseline else name


def _figure(names: Sequence[str], labels: Sequence[str], title: str) -> tuple[Any, Any]:
    figure = new_figure(_INCHES, _AROUND + _OF_ROW * len(names), title=title)
    axes = figure.subplots()
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), [_wrapped(label) for label in labels])
    dress(axes)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=10, colors=INK)
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=5)
    return figure, axes


def _best_recipe(found: SuiteComparison) -> str:
    """Which recipe is ahead, and of what: a mean, not a verdict."""
    means = {name: scores[found.metric].mean.mean for name, scores in found.scores.items()}
    pick = max if found.better == "higher" else min
    first = pick(means, key=lambda name: means[name])
    if first == found.baseline:
        return tr(
            "No recipe is ahead of {baseline} in {metric}: {means:.3f}",
            baseline=found.baseline,
            metric=found.metric,
            means=means[first],
        )
    verdict = found.primary()[first].difference.verdict if first in found.primary() else ""
    said = tr(
        "{first} is ahead in {metric}: {means:.3f}, {baseline} {means_2:.3f}",
        first=first,
        metric=found.metric,
        means=means[first],
        baseline=found.baseline,
        means_2=means[found.baseline],
    )
    return f"{said} ({word(verdict) or tr('no verdict')})"


def _verdicts(found: SuiteComparison) -> str:
    """How many recipes are shown to be better or worse than the baseline."""
    given = [word(entry.difference.verdict) or tr("no verdict") for entry in found.primary().values()]
    told = ", ".join(f"{given.count(one)} {one}" for one in dict.fromkeys(given))
    return tr("Against {baseline}: {told}", baseline=found.baseline, told=told)


def _wrapped(label: str) -> str:
    import textwrap

    return "\n".join("\n".join(textwrap.wrap(line, 20)[:3]) for line in label.splitlines())


def _beside_each_other(values: Sequence[float], row: int) -> list[float]:
    """Heights of dots that would else lie on each other: the seeds of a recipe a little below one another."""
    middle = (len(values) - 1) / 2
    return [row + 0.07 * (number - middle) for number in range(len(values))]
