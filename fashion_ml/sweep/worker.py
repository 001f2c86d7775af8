"""A worker: takes trials from the study until there are none, one at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import SweepSpec, to_yaml
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr, translated
from fashion_ml.runtime.redact import first_line
from fashion_ml.sweep.silence import Silence
from fashion_ml.sweep.study import ERROR, SLOT, SURPLUS, begun_run_of, open_study, queue_again
from fashion_ml.sweep.suite_study import RECIPE, SEED
from fashion_ml.sweep.trial import TrialError, TrialRunner

if TYPE_CHECKING:
    import optuna

_IDLE_SECONDS, _TROUBLE_SECONDS = 2.0, 5.0
_TROUBLES = 5
"""After so many trials cut off in a row, by something else than their settings, a worker gives up."""


def work(spec: SweepSpec, base: Any, url: str, folder: Path, *, deadline: float | None = None) -> None:
    """Run the trials of a sweep, as `take_trials` has it. InputError when the study has not been begun."""
    from fashion_ml.tracking.run import attach_id

    study = open_study(spec, base, url, create=False)
    run = attach_id(begun_run_of(study))
    runner = TrialRunner(spec, write_base(base, folder), folder / "trials", run)
    take_trials(study, runner, spec.heartbeat_seconds, deadline=deadline)


def take_trials(
    study: optuna.Study,
    runner: Callable[[optuna.Trial], Any],
    heartbeat_seconds: int,
    *,
    deadline: float | None = None,
    more: Callable[[], bool] = lambda: False,
) -> None:
    """Run trials until none waits and none runs; a trial whose worker died is taken over. Nothing begins after `deadline`
    (`time.monotonic()`). When none is left `more` may queue others; it says whether there are any."""
    import optuna

    troubles, silence = 0, Silence(4 * heartbeat_seconds)
    while deadline is None or time.monotonic() < deadline:
        queue_again(study, silence)
        states = [trial.state for trial in study.get_trials(deepcopy=False)]
        if optuna.trial.TrialState.WAITING in states:
            try:
                study.optimize(runner, n_trials=1, catch=(TrialError,), callbacks=[_say_how_it_ended])
                troubles = 0
            except Exception as error:
                if str(error).startswith("Cannot tell a"):
                    say(tr("A trial of this worker was taken over, because it had been silent for too long"))
                    continue
                troubles += 1
                say(tr("A trial was cut off ({first_line}); it is queued again", first_line=first_line(error)))
                if troubles == _TROUBLES:
                    raise
                time.sleep(_TROUBLE_SECONDS)
        elif optuna.trial.TrialState.RUNNING in states:  # another worker's, which may yet die
            time.sleep(_IDLE_SECONDS)
        elif not more():
            return


def write_base(base: Any, folder: Path, name: str = "base.yaml") -> Path:
    """A base experiment as a file for the trainings."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    write_text(path, to_yaml(base))
    return path


def _say_how_it_ended(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Which trial, or of a suite which recipe and seed, its values, and why it failed."""
    had, values = trial.user_attrs, ", ".join(f"{value:.4f}" for value in trial.values or ())
    params = ", ".join(f"{name} {value}" for name, value in trial.params.items())
    if RECIPE in had:
        name = tr("{recipe}, seed {seed}", recipe=had[RECIPE], seed=had[SEED])
    else:
        name = tr("trial {slot} ({params})", slot=had.get(SLOT, trial.number), params=params)
    if SURPLUS in had:
        say(tr("{name}: left to another worker", name=name))
    elif ERROR in had:
        say(tr("{name}: failed, {had}", name=name, had=had[ERROR]))
    else:
        say(tr("{name}: {state} {values}", name=name, state=translated(trial.state.name.lower()), values=values).rstrip())
