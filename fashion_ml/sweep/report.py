"""What a sweep found: its plots, its table, and its best settings as an experiment that can be run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fashion_ml.config import SweepSpec
from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.console import say
from fashion_ml.runtime.csv_cells import to_csv
from fashion_ml.runtime.language import tr
from fashion_ml.sweep.best_settings import write_best
from fashion_ml.sweep.launch import values_of_complete
from fashion_ml.sweep.plot_pages import write_pages
from fashion_ml.sweep.plots import draw_pictures
from fashion_ml.sweep.ranked import best_trials, complete_trials, tie_line, tied_with_best
from fashion_ml.sweep.study import trials_of
from fashion_ml.sweep.trial import PROCESS_SECONDS
from fashion_ml.tracking.queries import log_changed

if TYPE_CHECKING:
    import optuna

    from fashion_ml.tracking.run import TrackedRun


def write_report(spec: SweepSpec, study: optuna.Study, base_yaml: Path, folder: Path, run: TrackedRun) -> list[Path]:
    """Trials as CSV, plots as PNG and, where plotly is installed, pages that share one script, and the best settings as YAML and JSON; all to
    `folder` and the study's run.

    A plot that the trials so far do not allow, such as importances of one trial, is told and left out. InputError when no trial is complete.
    """
    best = best_trials(study)
    if not complete_trials(study):
        raise InputError(tr("sweep: no trial of {name!r} is complete yet; run fashion-ml sweep first", name=spec.name))
    if not best:
        say(
            tr(
                "Every complete trial breaks a constraint ({names}): there are no best settings",
                names="; ".join(spec.constraints),
            )
        )
    if told := tie_line(tied_with_best(study)):
        say(told)
    folder.mkdir(parents=True, exist_ok=True)
    table = trial_frame(spec, study)
    paths = [folder / "trials.csv", *write_best(spec, study, base_yaml, folder)]
    with atomic_path(paths[0]) as temporary:
        temporary.write_text(to_csv(table), encoding="utf-8")
    for old in (*folder.glob("*.png"), *folder.glob("*.html")):
        old.unlink()
    pictures = draw_pictures(spec, study, folder)
    paths += [*pictures, *write_pages(spec, study, folder, pictures, run.run_id)]
    for path in paths:
        run.log_file(path, "report")
    run.log_table(table.astype(object).where(table.notna(), None), "trials_table.json")
    if len(best) == 1 and len(spec.objectives) == 1:
        named = zip(spec.objectives, best[0].values, strict=True)
        log_changed(run, {f"best_{objective.metric}": value for objective, value in named})
    return paths


def trial_frame(spec: SweepSpec, study: optuna.Study) -> pd.DataFrame:
    """A row for each trial: slot, state, settings, values, seconds, and its runs."""
    best = {trial.number for trial in best_trials(study)}
    rows = []
    for trial in trials_of(study):
        row: dict[str, Any] = {
            "trial": trial.user_attrs["slot"],
            "state": trial.state.name.lower(),
            "best": trial.number in best,
        }
        row |= {name: trial.params.get(name) for name in spec.search_space}
        values: Sequence[float | None] = values_of_complete(trial) or [None] * len(spec.objectives)
        row |= {objective.metric: value for objective, value in zip(spec.objectives, values, strict=True)}
        row["seconds"] = round(trial.duration.total_seconds(), 1) if trial.duration else None
        spent = trial.user_attrs.get(PROCESS_SECONDS)
        row["process_seconds"] = None if spent is None else round(spent, 1)
        row["runs"] = ", ".join(value for key, value in trial.user_attrs.items() if key.startswith("run_"))
        rows.append(row | {"error": trial.user_attrs.get("error")})
    return pd.DataFrame(rows)


def to_dict(spec: SweepSpec, study: optuna.Study) -> dict[str, Any]:
    """For JSON: the best trials."""
    best = [{"trial": t.user_attrs["slot"], "values": t.values, "params": t.params} for t in best_trials(study)]
    return json.loads(json.dumps({"study": spec.name, "objectives": [o.metric for o in spec.objectives], "best": best}))
