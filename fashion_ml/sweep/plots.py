"""Pictures of a sweep: how it went, what each setting does, which settings matter; a metric's axis says its name and which way is better."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fashion_ml.config import Dimension, SweepSpec
from fashion_ml.evaluation.words import word
from fashion_ml.runtime.console import say
from fashion_ml.runtime.figure_style import BLUE, GREY, ORANGE, dress, name_below, new_figure, save_figure, set_title
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.redact import first_line
from fashion_ml.sweep.objectives import directions_of
from fashion_ml.sweep.plot_ticks import log_ticks, short_number
from fashion_ml.sweep.plot_titles import front_title, history_title, importances_title, lines_title, slices_title
from fashion_ml.sweep.ranked import best_trials, complete_trials, is_feasible

if TYPE_CHECKING:
    import optuna
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = (9.0, 5.0)
POINT, BEST, BROKEN = BLUE, ORANGE, GREY
"""Of a trial, of the best, and of trials that break a constraint, which are never the best."""
_LETTERS = 84
"""Letters that stand side by side below a plot."""
_SHOWN = 24
"""Letters of a setting's value beyond which it is cut."""


@dataclass(frozen=True)
class Aim:
    """One objective of a sweep."""

    number: int
    metric: str
    lower: bool
    """Whether less is better."""

    @property
    def label(self) -> str:
        """For an axis."""
        way = word("lower" if self.lower else "higher")
        return self.metric + tr(" ({better} is better)", better=way)

    def of(self, trial: Any) -> float:
        """The value of a complete trial."""
        return float(trial.values[self.number])

    def worst_first(self, trials: Sequence[Any]) -> list[Any]:
        """Trials so that the best, of equal ones the first, is drawn last, on top of the others; those that break a constraint before all."""
        kept, broken = by_constraints(trials)
        best_first = sorted(kept, key=self.of, reverse=not self.lower)
        return [*broken, *best_first[::-1]]


def by_constraints(trials: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The trials that keep the constraints, and those that break one."""
    return [trial for trial in trials if is_feasible(trial)], [trial for trial in trials if not is_feasible(trial)]


def breaks() -> str:
    """What a trial does that keeps not all constraints, in the language."""
    return tr("breaks a constraint")


def aims_of(spec: SweepSpec) -> list[Aim]:
    """The objectives, each with the way that is better."""
    ways = directions_of(spec)
    return [
        Aim(number, one.metric, way == "minimize") for number, (one, way) in enumerate(zip(spec.objectives, ways, strict=True))
    ]


def draw_pictures(spec: SweepSpec, study: optuna.Study, folder: Path) -> list[Path]:
    """PNGs into a folder; one that the trials so far do not allow, such as importances of one trial, is told and left out."""
    aims, complete = aims_of(spec), complete_trials(study)
    drawings: dict[str, Callable[[Figure], None]] = {}
    for aim in aims:
        end = f"_{aim.metric}" if len(aims) > 1 else ""
        drawings |= {
            f"param_importances{end}": partial(_importances, study=study, aim=aim),
            f"optimization_history{end}": partial(_history, complete=complete, aim=aim),
            f"parallel_coordinate{end}": partial(_parallel, spec=spec, complete=complete, aim=aim),
            f"slice{end}": partial(_slices, spec=spec, complete=complete, aim=aim),
        }
    if len(aims) > 1:
        drawings["pareto_front"] = partial(_front, study=study, complete=complete, aims=aims)
    return [path for name, draw in drawings.items() if (path := _drawn(folder / f"{name}.png", draw)) is not None]


def _drawn(path: Path, draw: Callable[[Figure], None]) -> Path | None:
    figure = new_figure(*_SIZE)
    try:
        draw(figure)
    except (ValueError, RuntimeError, ZeroDivisionError) as error:  # too few trials, or one value only
        say(tr("The plot {stem} cannot be drawn yet: {first_line}", stem=path.stem, first_line=first_line(error)))
        return None
    save_figure(path, figure)
    return path


def _history(figure: Figure, complete: Sequence[Any], aim: Aim) -> None:
    """Every trial's value, and the best so far of those that break no constraint."""
    axes = figure.add_subplot()
    kept, broken = by_constraints(complete)
    slots, values = [trial.user_attrs["slot"] for trial in kept], np.array([aim.of(trial) for trial in kept])
    best = np.minimum.accumulate(values) if aim.lower else np.maximum.accumulate(values)
    axes.step(slots, best, where="post", color=BEST, label=tr("best so far"))
    axes.scatter(slots, values, color=POINT, label="trial", zorder=2)
    _scatter_broken(axes, [trial.user_attrs["slot"] for trial in broken], [aim.of(trial) for trial in broken])
    dress(axes, x="trial", y=aim.label, whole_x=True)
    name_below(axes)
    set_title(figure, history_title(kept, complete, aim))


def _scatter_broken(axes: Axes, across: Sequence[float], up: Sequence[float]) -> None:
    if across:
        axes.scatter(across, up, color=BROKEN, marker="x", label=breaks(), zorder=1.5)


def importances(study: optuna.Study, aim: Aim) -> dict[str, float]:
    """How much each setting tells the best trials from the others (PED-ANOVA, Watanabe et al. 2023), in shares; ValueError for too few."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    def less_is_better(trial: Any) -> float:
        return aim.of(trial) if aim.lower else -aim.of(trial)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target=less_is_better)
    if not found or not sum(found.values()):
        raise ValueError(tr("no setting tells the best trials from the others"))
    return found


def _importances(figure: Figure, study: optuna.Study, aim: Aim) -> None:
    """Bars, the longest on top."""
    shares = importances(study, aim)
    from matplotlib.ticker import PercentFormatter

    axes, names = figure.add_subplot(), list(shares)[::-1]
    bars = axes.barh(names, [shares[name] for name in names], color=POINT, height=0.6)
    axes.bar_label(bars, labels=[f"{shares[name]:.0%}" for name in names], padding=4)
    axes.set(
        xlim=(0, 1.1),
    )
    dress(axes, x=tr("share of what tells the best trials from the others (PED-ANOVA)"))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    set_title(figure, importances_title(shares, aim))


def _slices(figure: Figure, spec: SweepSpec, complete: Sequence[Any], aim: Aim) -> None:
    """The objective over each setting by itself; the darker a point, the later its trial."""
    rows, columns = grid_of(len(spec.search_space))
    figure.set_size_inches(_SIZE[0], _SIZE[1] if rows == 1 else 3.2 * rows)
    every = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in every.ravel()[len(spec.search_space) :]:
        axes.remove()
    for axes, (name, dimension) in zip(every.ravel(), spec.search_space.items(), strict=False):
        kept, broken = by_constraints([trial for trial in complete if name in trial.params])
        place, ticks = _axis(dimension)
        later = [0.35 + 0.65 * (number + 1) / len(kept) for number in range(len(kept))]
        places, others = ([place(trial.params[name]) for trial in some] for some in (kept, broken))
        axes.scatter(places, [aim.of(trial) for trial in kept], c=later, cmap="Blues", vmin=0, vmax=1)
        _scatter_broken(axes, others, [aim.of(trial) for trial in broken])
        _ticks(axes, ticks, _limits(ticks, [*places, *others]), _LETTERS // columns)
        dress(axes, x=name)
    for row in every:
        row[0].set_ylabel(aim.label if rows == 1 else aim.label.replace(" (", "\n("))
    grey = f"; x {breaks()}" if by_constraints(complete)[1] else ""
    set_title(
        figure,
        tr(
            "{slices_title}; darker points are later trials{grey}",
            slices_title=slices_title(by_constraints(complete)[0], aim),
            grey=grey,
        ),
    )


def grid_of(settings: int) -> tuple[int, int]:
    """Rows and columns of as many small plots, at most three side by side."""
    return -(-settings // 3), min(settings, 3)


@dataclass(frozen=True)
class Column:
    """One axis of parallel coordinates."""

    name: str
    places: Sequence[float]
    """Of each trial, 0 at the bottom to 1 at the top; not a number where the setting was not searched, so that the line has a gap."""
    ticks: Sequence[tuple[float, str]]


def columns_of(spec: SweepSpec, trials: Sequence[Any], aim: Aim) -> list[Column]:
    """The objective, then each setting. ValueError where no two trials differ."""
    values = [aim.of(trial) for trial in trials]
    if len(set(values)) < 2:
        raise ValueError(tr("it takes two trials with different values"))
    low, high = min(values), max(values)
    ends = [(place, f"{low + place * (high - low):.4g}") for place in np.linspace(0, 1, 5).tolist()]
    found = [Column(aim.metric, [(value - low) / (high - low) for value in values], ends)]
    for name, dimension in spec.search_space.items():
        searched = [trial.params[name] for trial in trials if name in trial.params]
        place, ticks = _axis(dimension)
        first, last = _limits(ticks, [place(value) for value in searched])
        places = [(place(one.params[name]) - first) / (last - first) if name in one.params else math.nan for one in trials]
        found.append(Column(name, places, [((position - first) / (last - first), text) for position, text in ticks]))
    return found


def shades(values: Sequence[float], aim: Aim) -> tuple[float, float]:
    """The values of the ends of a colour map, of which the palest is still seen."""
    low, high = min(values), max(values)
    margin = 0.25 * (high - low) or 1.0
    return (low, high + margin) if aim.lower else (low - margin, high)


def _parallel(figure: Figure, spec: SweepSpec, complete: Sequence[Any], aim: Aim) -> None:
    """A line for each trial through its value and its settings; the better, the darker and the later; grey where it breaks a constraint."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    trials, (kept, broken) = aim.worst_first(complete), by_constraints(complete)
    columns, values = columns_of(spec, trials, aim), [aim.of(trial) for trial in trials]
    shade = ScalarMappable(
        Normalize(*shades([aim.of(trial) for trial in kept or trials], aim)), "Blues_r" if aim.lower else "Blues"
    )
    axes = figure.add_subplot()
    for row, value in enumerate(values):
        colour = BROKEN if row < len(broken) else shade.to_rgba(np.array([value]))[0]
        best = bool(kept) and row == len(values) - 1
        line = [column.places[row] for column in columns]
        axes.plot(
            range(len(columns)),
            line,
            color=colour,
            linewidth=3 if best else 1.6,
            label=breaks() if row == 0 and broken else None,
        )
    if broken:
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.06))
    for number, column in enumerate(columns):
        axes.axvline(number, color="0.35", linewidth=0.8, zorder=0)
        for place, text in column.ticks:
            axes.annotate(text, (number, place), (5, 0), textcoords="offset points", va="center", fontsize=8, color="0.2",
                          bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75}, zorder=5)  # fmt: skip
    set_title(figure, lines_title(kept))
    axes.set(xlim=(-0.1, len(columns) - 0.6), ylim=(-0.05, 1.05), yticks=[])
    axes.set_xticks(range(len(columns)), [column.name for column in columns])
    if sum(len(column.name) for column in columns) > _LETTERS:
        axes.tick_params(axis="x", labelrotation=15)
    axes.spines[:].set_visible(False)
    figure.colorbar(shade, ax=axes, label=aim.label, pad=0.02)


def _front(figure: Figure, study: optuna.Study, complete: Sequence[Any], aims: Sequence[Aim]) -> None:
    """Every two objectives against each other; the trials that none beats in all."""
    pairs = list(itertools.combinations(aims, 2))
    best, (kept, broken) = {trial.number for trial in best_trials(study)}, by_constraints(complete)
    for axes, (first, second) in zip(np.ravel(figure.subplots(1, len(pairs))), pairs, strict=True):
        for front, colour, label in ((False, POINT, "trial"), (True, BEST, tr("beaten by none in all"))):
            some = [trial for trial in kept if (trial.number in best) == front]
            axes.scatter([first.of(trial) for trial in some], [second.of(trial) for trial in some], color=colour, label=label)
        _scatter_broken(axes, [first.of(trial) for trial in broken], [second.of(trial) for trial in broken])
        dress(axes, x=first.label, y=second.label)
        name_below(axes)
    set_title(figure, front_title(len(best), len(kept)))


Ticks = list[tuple[float, str]]


def _axis(dimension: Dimension) -> tuple[Callable[[Any], float], Ticks]:
    """Where a setting's values lie on an axis, and its ticks: choices at equal distances, logarithms where they are searched."""
    if dimension.choices is not None:
        order = {str(choice): float(number) for number, choice in enumerate(dimension.choices)}
        return lambda value: order[str(value)], [(place, text[:_SHOWN]) for text, place in order.items()]
    low, high = float(dimension.low or 0), float(dimension.high or 0)
    if dimension.log:
        return lambda value: math.log10(value), [(math.log10(tick), short_number(tick)) for tick in log_ticks(low, high)]
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(nbins=5, integer=dimension.type == "int").tick_values(low, high)
    return float, [(float(tick), short_number(float(tick))) for tick in found if low <= tick <= high]


def _limits(ticks: Ticks, values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis, apart from each other."""
    low, high = (pick([*(place for place, _ in ticks), *values]) for pick in (min, max))
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _ticks(axes: Axes, ticks: Ticks, ends: tuple[float, float], letters: int) -> None:
    """With room at both ends, so that neither points nor the ticks of the next plot lie on the border."""
    texts, room = [text for _, text in ticks], 0.06 * (ends[1] - ends[0])
    axes.set_xlim(ends[0] - room, ends[1] + room)
    axes.set_xticks([place for place, _ in ticks], texts)
    if sum(len(text) + 2 for text in texts) > letters:
        axes.tick_params(axis="x", labelrotation=30)
