"""Plots of a sweep: named axes, ticks that can be read, the best trial dark and on top whichever way is better, one script for all pages."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from fashion_ml.config import Dimension, load_sweep
from fashion_ml.sweep.objectives import directions_of
from fashion_ml.sweep.plot_pages import SCRIPT, write_pages
from fashion_ml.sweep.plot_pages import _history as _pages_history
from fashion_ml.sweep.plot_pages import _parallel as _pages_parallel
from fashion_ml.sweep.plot_pages import _slices as _pages_slices
from fashion_ml.sweep.plot_ticks import log_ticks, short_number
from fashion_ml.sweep.plots import (
    BROKEN,
    _history,
    _parallel,
    _slices,
    aims_of,
    columns_of,
    draw_pictures,
    grid_of,
    importances,
)
from fashion_ml.sweep.ranked import is_feasible
from fashion_ml.sweep.space import suggest
from fashion_ml.sweep.study import SLOT
from tests.unit.sweep.test_study import written

SPACE: dict[str, Any] = {
    "network.rank": {"type": "categorical", "choices": [2, 8, 32]},
    "optimizer.learning_rate": {"type": "float", "low": 3e-4, "high": 1e-2, "log": True},
    "optimizer.weight_decay": {"type": "float", "low": 0, "high": 0.3, "when": {"network.rank": [32]}},
}


def searched(folder: Path, *metrics: str, trials: int = 12) -> tuple[Any, optuna.Study]:
    """Twelve trials; the value is the distance of the rate from 1e-3, in decades, and it is less the nearer."""
    confirm = {"best": 0} if len(metrics) > 1 else {}
    spec, _ = load_sweep(
        written(folder, search_space=SPACE, objectives=[{"metric": one} for one in metrics], confirm=confirm), {}
    )
    study = optuna.create_study(directions=directions_of(spec), sampler=optuna.samplers.RandomSampler(seed=0))
    for slot in range(trials):
        study.enqueue_trial({}, user_attrs={SLOT: slot})

    def value(trial: optuna.Trial) -> Any:
        apart = abs(math.log10(suggest(trial, spec.search_space)["optimizer.learning_rate"]) + 3)
        found = [apart if one.lower else 1 - apart for one in aims_of(spec)]
        return found if len(found) > 1 else found[0]

    study.optimize(value, n_trials=trials)
    return spec, study


@pytest.mark.parametrize(
    ("value", "text"),
    [(3e-4, "3e-4"), (1e-2, "0.01"), (2.5e-5, "2.5e-5"), (16, "16"), (0.05, "0.05"), (1500, "1500"), (5e6, "5e6"), (0, "0")],
)
def test_numbers_are_short(value: float, text: str):
    assert short_number(value) == text


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (3e-4, 1e-2, [3e-4, 1e-3, 3e-3, 1e-2]),
        (1e-6, 1e-2, [1e-6, 1e-5, 1e-4, 1e-3, 1e-2]),
        (2, 64, [3, 10, 30]),
        (2e-5, 9e-5, [2e-5, 3e-5, 4e-5, 5e-5, 6e-5, 8e-5]),
        (1.01, 1.02, [1.01, 1.01, 1.02]),
        (1e-12, 1e3, [1e-12, 1e-9, 1e-6, 1e-3, 1, 1e3]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_few_and_round(low: float, high: float, ticks: list[float]):
    assert log_ticks(low, high) == pytest.approx(ticks, rel=1e-2)


def darkness(line: Any) -> float:
    return 3 - sum(to_rgb(line.get_color()))


@pytest.mark.parametrize("metric", ["weighted_total_loss", "fashion_similarity"])
def test_the_best_trial_is_the_darkest_and_drawn_last_whichever_way_is_better(tmp_path: Path, metric: str):
    spec, study = searched(tmp_path, metric)
    (aim,) = aims_of(spec)
    figure = Figure()
    _parallel(figure, spec, study.trials, aim)
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 4]  # type: ignore[arg-type]
    shades = [darkness(line) for line in lines]
    assert len(lines) == 12
    assert shades == sorted(shades)
    heights = [line.get_ydata()[0] for line in lines]  # type: ignore[index]
    assert heights[-1] == (min if aim.lower else max)(heights)
    way = "lower" if metric == "weighted_total_loss" else "higher"
    assert figure.axes[1].get_ylabel() == f"{metric} ({way} is better)"


def breaking(study: optuna.Study, aim: Any, *, every: bool = False) -> list[Any]:
    """The trials, of which the best two, or all, break a constraint."""
    ranked = sorted(study.trials, key=aim.of, reverse=not aim.lower)
    broken = {trial.number for trial in (ranked if every else ranked[:2])}
    return [SimpleNamespace(**{name: getattr(trial, name) for name in ("number", "values", "params", "user_attrs")},
                            constraints={"c": 1.0 if trial.number in broken else -1.0}) for trial in study.trials]  # fmt: skip


@pytest.mark.parametrize("metric", ["weighted_total_loss", "fashion_similarity"])
def test_trials_that_break_a_constraint_are_grey_and_never_the_best(tmp_path: Path, metric: str):
    spec, study = searched(tmp_path, metric)
    (aim,) = aims_of(spec)
    trials = breaking(study, aim)
    best = (min if aim.lower else max)(aim.of(trial) for trial in trials if is_feasible(trial))
    history, parallel, slices = Figure(), Figure(), Figure()
    _history(history, trials, aim)
    assert history.axes[0].lines[0].get_ydata()[-1] == best  # type: ignore[index]
    assert [text.get_text() for text in history.axes[0].get_legend().texts] == ["best so far", "trial", "breaks a constraint"]  # type: ignore[union-attr]
    _parallel(parallel, spec, trials, aim)
    lines = [line for line in parallel.axes[0].lines if len(line.get_xdata()) == 4]  # type: ignore[arg-type]
    assert [to_rgb(line.get_color()) == to_rgb(BROKEN) for line in lines] == [True] * 2 + [False] * 10
    assert [line.get_linewidth() > 2 for line in lines] == [False] * 11 + [True]
    values = [aim.of(trial) for trial in trials]
    assert lines[-1].get_ydata()[0] == pytest.approx((best - min(values)) / (max(values) - min(values)))  # type: ignore[index]
    assert [text.get_text() for text in parallel.axes[0].get_legend().texts] == ["breaks a constraint"]  # type: ignore[union-attr]
    _slices(slices, spec, trials, aim)
    assert slices.get_suptitle().endswith("x breaks a constraint")
    pages = [_pages_history(trials, aim), _pages_parallel(spec, trials, aim), _pages_slices(spec, trials, aim)]
    assert pages[0].data[0].y[-1] == best
    assert [trace.line.width for trace in pages[1].data[:12]] == [2] * 11 + [4]
    assert [trace.line.color == BROKEN for trace in pages[1].data[:12]] == [True] * 2 + [False] * 10
    assert "breaks a constraint" in pages[1].data[0].text
    assert pages[2].layout.title.text.endswith("x breaks a constraint")


def test_where_every_trial_breaks_a_constraint_none_is_drawn_as_the_best(tmp_path: Path):
    spec, study = searched(tmp_path, "weighted_total_loss")
    (aim,) = aims_of(spec)
    trials = breaking(study, aim, every=True)
    history, parallel = Figure(), Figure()
    _history(history, trials, aim)
    _parallel(parallel, spec, trials, aim)
    assert parallel.get_suptitle() == "Every trial; each breaks a constraint"
    assert all(line.get_linewidth() < 2 for line in parallel.axes[0].lines)
    assert _pages_history(trials, aim).data[0].y == ()
    assert all(trace.line.width == 2 for trace in _pages_parallel(spec, trials, aim).data[:12])


def test_the_metrics_name_is_on_every_axis_and_rates_are_short(tmp_path: Path):
    spec, study = searched(tmp_path, "weighted_total_loss")
    (aim,) = aims_of(spec)
    slices, history = Figure(), Figure()
    _slices(slices, spec, study.trials, aim)
    _history(history, study.trials, aim)
    named = "weighted_total_loss (lower is better)"
    assert (slices.axes[0].get_ylabel(), history.axes[0].get_ylabel()) == (named, named)
    assert [axes.get_xlabel() for axes in slices.axes] == list(SPACE)
    assert [label.get_text() for label in slices.axes[1].get_xticklabels()] == ["3e-4", "1e-3", "3e-3", "0.01"]
    assert [label.get_text() for label in slices.axes[0].get_xticklabels()] == ["2", "8", "32"]
    columns = columns_of(spec, study.trials, aim)
    assert [column.name for column in columns] == ["weighted_total_loss", *SPACE]
    gaps = [math.isnan(place) for place in columns[-1].places]
    assert gaps == ["optimizer.weight_decay" not in trial.params for trial in study.trials]
    assert (grid_of(2), grid_of(6), grid_of(7)) == ((1, 2), (2, 3), (3, 3))


@pytest.mark.parametrize("metric", ["weighted_total_loss", "fashion_similarity"])
def test_what_tells_the_best_trials_from_the_others_follows_the_better_way(tmp_path: Path, metric: str):
    spec, study = searched(tmp_path, metric)
    assert next(iter(importances(study, aims_of(spec)[0]))) == "optimizer.learning_rate"


@pytest.mark.parametrize("metrics", [("weighted_total_loss",), ("weighted_total_loss", "fashion_similarity")])
def test_pages_share_one_script_beside_them_and_are_small(tmp_path: Path, metrics: tuple[str, ...]):
    pytest.importorskip("plotly")
    spec, study = searched(tmp_path, *metrics)
    pictures = draw_pictures(spec, study, tmp_path)
    pages = write_pages(spec, study, tmp_path, pictures, "abc123")
    assert len(pictures) == (4 if len(metrics) == 1 else 9)
    assert {path.stem for path in pages} == {path.stem for path in pictures} | {Path(SCRIPT).stem}
    assert sum(path.name == SCRIPT for path in pages) == 1
    for page in pages:
        if page.name != SCRIPT:
            text = page.read_text(encoding="utf-8")
            assert len(text) < 60_000
            assert text.count(f'src="{SCRIPT}"') == 1
            assert "run_uuid=abc123" in text
    assert any(
        "weighted_total_loss (lower is better)" in page.read_text(encoding="utf-8") for page in pages if page.name != SCRIPT
    )


def test_what_one_trial_does_not_allow_is_said_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    spec, study = searched(tmp_path, "weighted_total_loss", trials=1)
    names = {path.stem for path in draw_pictures(spec, study, tmp_path)}
    assert "parallel_coordinate" not in names
    assert {"optimization_history", "slice"} <= names
    assert "The plot parallel_coordinate cannot be drawn yet: it takes two trials with different values" in caplog.text


def test_a_dimension_has_the_same_ticks_in_pictures_and_pages():
    one = Dimension(type="float", low=1e-5, high=1e-3, log=True)
    assert [short_number(tick) for tick in log_ticks(one.low or 0, one.high or 0)] == ["1e-5", "1e-4", "1e-3"]
