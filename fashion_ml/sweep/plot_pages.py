"""The same plots as pages that can be pointed at, where plotly is installed; all of them share one script beside them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import accumulate, combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import SweepSpec
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.language import tr
from fashion_ml.sweep.plot_ticks import log_ticks, short_number
from fashion_ml.sweep.plot_titles import front_title, history_title, importances_title, lines_title, slices_title
from fashion_ml.sweep.plots import (
    BEST,
    BROKEN,
    POINT,
    Aim,
    aims_of,
    breaks,
    by_constraints,
    columns_of,
    grid_of,
    importances,
    shades,
)
from fashion_ml.sweep.ranked import best_trials, complete_trials

if TYPE_CHECKING:
    import optuna

SCRIPT = "plotly.min.mjs"
"""Beside the pages. MLflow serves what ends with .js as text, which no browser runs; with this ending the pages work inside its UI too."""
_FALLBACK = """<script src="plotly.min.mjs"></script>
<script>/* MLflow's page shows a copy of this one, which has nothing beside it */
window.Plotly || document.write('<script src="' + location.href.replace(/^blob:/, "").split("/").slice(0, 3).join("/") +
  '/get-artifact?path=report%2Fplotly.min.mjs&run_uuid=RUN_ID"><' + '/script>');</script>
<script>window.Plotly || document.write("<p>plotly.min.mjs is not beside this page: see PICTURE.png</p>");</script>"""


def write_pages(spec: SweepSpec, study: optuna.Study, folder: Path, pictures: Sequence[Path], run_id: str) -> list[Path]:
    """A page for each picture that was drawn, and the script that they share; nothing without plotly."""
    if find_spec("plotly") is None or not pictures:
        return []
    from plotly.offline import get_plotlyjs

    complete = complete_trials(study)
    aims, drawn, paths = aims_of(spec), {path.stem for path in pictures}, [folder / SCRIPT]
    write_text(paths[0], get_plotlyjs())
    makers = {
        "param_importances": lambda aim: _importances(study, aim),
        "optimization_history": lambda aim: _history(complete, aim),
        "parallel_coordinate": lambda aim: _parallel(spec, complete, aim),
        "slice": lambda aim: _slices(spec, complete, aim),
    }
    for aim in aims:
        end = f"_{aim.metric}" if len(aims) > 1 else ""
        paths += [
            _page(folder / f"{name}{end}.html", make(aim), run_id) for name, make in makers.items() if f"{name}{end}" in drawn
        ]
    if "pareto_front" in drawn:
        paths.append(_page(folder / "pareto_front.html", _front(study, complete, aims), run_id))
    return paths


def _page(path: Path, figure: Any, run_id: str) -> Path:
    figure.update_layout(template="plotly_white")
    text = figure.to_html(include_plotlyjs="directory")
    script = _FALLBACK.replace("RUN_ID", run_id).replace("PICTURE", path.stem)
    write_text(path, re.sub(r'<script[^>]* src="plotly\.min\.js"></script>', lambda _: script, text, count=1))
    return path


def _says(trial: Any) -> str:
    """What is shown of a trial that is pointed at."""
    return "<br>".join(
        [tr("trial {slot}", slot=trial.user_attrs["slot"]), *(f"{name} {value}" for name, value in trial.params.items())]
    )


def _points(trials: Sequence[Any], across: Sequence[Any], up: Sequence[float], name: str, **marker: Any) -> Any:
    from plotly.graph_objects import Scatter

    return Scatter(
        x=across, y=up, mode="markers", name=name, text=[_says(trial) for trial in trials], marker={"size": 9, **marker}
    )


def _broken(trials: Sequence[Any], across: Sequence[Any], up: Sequence[float]) -> Any:
    """Trials that break a constraint."""
    return _points(trials, across, up, breaks(), color=BROKEN, symbol="x")


def _history(complete: Sequence[Any], aim: Aim) -> Any:
    from plotly.graph_objects import Figure, Scatter

    kept, broken = by_constraints(complete)
    slots, values = [trial.user_attrs["slot"] for trial in kept], [aim.of(trial) for trial in kept]
    best = Scatter(x=slots, y=list(accumulate(values, min if aim.lower else max)), line={"shape": "hv"}, name=tr("best so far"))
    traces = [best, _points(kept, slots, values, "trial")]
    if broken:
        traces.append(_broken(broken, [trial.user_attrs["slot"] for trial in broken], [aim.of(trial) for trial in broken]))
    return Figure(traces).update_layout(title=history_title(kept, complete, aim), xaxis_title="trial", yaxis_title=aim.label)


def _importances(study: optuna.Study, aim: Aim) -> Any:
    from plotly.graph_objects import Bar, Figure

    shares = dict(reversed(importances(study, aim).items()))
    texts = [f"{share:.0%}" for share in shares.values()]
    return Figure(Bar(x=list(shares.values()), y=list(shares), orientation="h", text=texts)).update_layout(
        title=importances_title(shares, aim), xaxis_title=tr("what tells the best trials from the others (PED-ANOVA)")
    )


def _slices(spec: SweepSpec, complete: Sequence[Any], aim: Aim) -> Any:
    from plotly.subplots import make_subplots

    rows, columns = grid_of(len(spec.search_space))
    figure = make_subplots(rows=rows, cols=columns, shared_yaxes=True, vertical_spacing=0.3 / rows)
    for number, (name, dimension) in enumerate(spec.search_space.items()):
        at = {"row": number // columns + 1, "col": number % columns + 1}
        for broken, some in enumerate(by_constraints([trial for trial in complete if name in trial.params])):
            across = [trial.params[name] if dimension.choices is None else str(trial.params[name]) for trial in some]
            up = [aim.of(trial) for trial in some]
            figure.add_trace(_broken(some, across, up) if broken else _points(some, across, up, name, color=POINT), **at)
        figure.update_xaxes(title=name, **at)
        if dimension.log:
            ticks = log_ticks(float(dimension.low or 0), float(dimension.high or 0))
            figure.update_xaxes(type="log", tickvals=ticks, ticktext=[short_number(tick) for tick in ticks], **at)
        elif dimension.choices is not None:
            order = [str(choice) for choice in dimension.choices]
            figure.update_xaxes(type="category", categoryorder="array", categoryarray=order, **at)
    label = aim.label if rows == 1 else aim.label.replace(" (", "<br>(")
    grey = f"; x {breaks()}" if by_constraints(complete)[1] else ""
    return figure.update_yaxes(title=label, col=1).update_layout(
        title=f"{slices_title(by_constraints(complete)[0], aim)}{grey}", showlegend=False, height=max(320 * rows, 450)
    )


def _parallel(spec: SweepSpec, complete: Sequence[Any], aim: Aim) -> Any:
    from plotly.colors import sample_colorscale
    from plotly.graph_objects import Figure, Scatter

    trials, (kept, broken) = aim.worst_first(complete), by_constraints(complete)
    columns, values = columns_of(spec, trials, aim), [aim.of(trial) for trial in trials]
    low, high = shades([aim.of(trial) for trial in kept or trials], aim)
    figure = Figure()
    for row, (trial, value) in enumerate(zip(trials, values, strict=True)):
        grey, share = row < len(broken), min(max((value - low) / (high - low), 0.0), 1.0)
        (colour,) = [BROKEN] if grey else sample_colorscale("Blues", [1 - share if aim.lower else share])
        line = {"color": colour, "width": 4 if kept and row == len(trials) - 1 else 2}
        places = [None if math.isnan(column.places[row]) else column.places[row] for column in columns]
        says = f"{aim.metric} {value:.4g}<br>{_says(trial)}{f'<br>{breaks()}' if grey else ''}"
        figure.add_trace(
            Scatter(x=list(range(len(columns))), y=places, line=line, mode="lines+markers", text=says, hoverinfo="text")
        )
    for number, column in enumerate(columns):
        figure.add_vline(x=number, line={"color": "#777", "width": 1})
        for place, text in column.ticks:
            figure.add_annotation(
                x=number, y=place, text=text, showarrow=False, xanchor="left", xshift=5, bgcolor="rgba(255,255,255,0.75)"
            )
    bar = {"color": [low, high], "colorscale": "Blues", "reversescale": aim.lower, "showscale": True, "size": 0.1}
    bar["colorbar"] = {"title": {"text": aim.label, "side": "right"}}
    figure.add_trace(Scatter(x=[0, 0], y=[0, 0], mode="markers", marker=bar, hoverinfo="skip"))
    figure.update_xaxes(tickvals=list(range(len(columns))), ticktext=[column.name for column in columns], showgrid=False)
    figure.update_yaxes(visible=False)
    others = tr("; grey {breaks}", breaks=breaks()) if kept and broken else ""
    return figure.update_layout(title=f"{lines_title(kept)}{others}", showlegend=False, height=520)


def _front(study: optuna.Study, complete: Sequence[Any], aims: Sequence[Aim]) -> Any:
    from plotly.subplots import make_subplots

    pairs, best = list(combinations(aims, 2)), {trial.number for trial in best_trials(study)}
    kept, broken = by_constraints(complete)
    figure = make_subplots(cols=len(pairs))
    for column, (first, second) in enumerate(pairs, 1):
        for front, name, colour in ((False, "trial", POINT), (True, tr("beaten by none in all"), BEST)):
            some = [trial for trial in kept if (trial.number in best) == front]
            points = _points(some, [first.of(one) for one in some], [second.of(one) for one in some], name, color=colour)
            figure.add_trace(points.update(showlegend=column == 1), col=column, row=1)
        if broken:
            points = _broken(broken, [first.of(one) for one in broken], [second.of(one) for one in broken])
            figure.add_trace(points.update(showlegend=column == 1), col=column, row=1)
        figure.update_xaxes(title=first.label, col=column, row=1).update_yaxes(title=second.label, col=column, row=1)
    return figure.update_layout(title=front_title(len(best), len(kept)))
