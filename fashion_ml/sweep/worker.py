"""A worker: takes trials from the study until there are none, one at a time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.checkpoint import write_text
from fashion_ml.config import SweepSpec, to_yaml
from fashion_ml.errors import InputError
from fashion_ml.progress import say
from fashion_ml.sweep.study import open_study, run_of
from fashion_ml.sweep.trial import TrialError, TrialRunner

if TYPE_CHECKING:
    import optuna

_IDLE_SECONDS = 2.0


def work(spec: SweepSpec, base: Any, url: str, folder: Path, *, worker: int, deadline: float | None = None) -> None:
    """Run trials until none waits and none runs; a trial whose worker died is taken over. Nothing begins after `deadline`
    (`time.monotonic()`). InputError when the study has not been begun."""
    import optuna

    from fashion_ml.tracking import attach_id

    study = open_study(spec, base, url, create=False, worker=worker)
    if not run_of(study):
        raise InputError(f"--storage: the study {spec.name!r} has no run yet; begin it with fashion-ml sweep --workers 0")
    runner = TrialRunner(spec, write_base(base, folder), folder / "trials", attach_id(run_of(study)))
    while deadline is None or time.monotonic() < deadline:
        states = [trial.state for trial in study.get_trials(deepcopy=False)]
        if optuna.trial.TrialState.WAITING in states:
            try:
                study.optimize(runner, n_trials=1, catch=(TrialError,), callbacks=[_say_how_it_ended])
            except ValueError as error:
                if not str(error).startswith("Cannot tell a"):
                    raise
                say("A trial of this worker was taken over, because it had been silent for too long")
        elif optuna.trial.TrialState.RUNNING in states:  # another worker's, which may yet die
            optuna.storages.fail_stale_trials(study)
            time.sleep(_IDLE_SECONDS)
        else:
            return


def write_base(base: Any, folder: Path) -> Path:
    """The base experiment as a file for the trainings."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "base.yaml"
    write_text(path, to_yaml(base))
    return path


def _say_how_it_ended(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    values = ", ".join(f"{value:.4f}" for value in trial.values or ())
    say(f"trial {trial.number} {trial.state.name.lower()} {values} {trial.params}")
