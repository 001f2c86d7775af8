"""A sweep: the study and its run, its workers, and a table that shows how it goes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table

from fashion_ml.config import SweepSpec, flat, to_yaml
from fashion_ml.errors import InputError
from fashion_ml.runtime.console import console, say
from fashion_ml.runtime.provenance import installed_versions
from fashion_ml.sweep.local_workers import LocalWorkers, Workers
from fashion_ml.sweep.study import ERROR, ask_for, hidden, open_study, queue_again, run_of, set_run, study_folder, trials_of
from fashion_ml.sweep.worker import write_base

if TYPE_CHECKING:
    import optuna

_REFRESH_SECONDS, _LINE_SECONDS = 2.0, 30.0
_RESTARTS, _BAD_INPUT = 20, 2


@dataclass(frozen=True)
class SweepOutcome:
    """What a sweep has found so far."""

    run_id: str
    study: optuna.Study
    folder: Path
    complete: int
    pruned: int
    failed: int
    left: int
    """Trials that still wait."""
    errors: Sequence[str]
    """Why trials failed, each reason once."""


def run_sweep(
    spec: SweepSpec, base: Any, spec_path: Path, url: str, *, workers: int | None = None, launcher: str = "local"
) -> SweepOutcome:
    """Begin the study or go on with it, run what remains of its trials, and log its run; `workers` is one for each GPU by default.

    `launcher` is `local`, or `ray` for the GPUs of a Ray cluster. With 0 workers the trials are only queued, for workers elsewhere.
    InputError for what a user can mend.
    """
    import optuna

    from fashion_ml.tracking.environment import experiment_to_use
    from fashion_ml.tracking.queries import close_dead_runs
    from fashion_ml.tracking.run import open_run
    from fashion_ml.tracking.store import shown_uri, store_uri

    if base.tracking.offline:
        raise InputError("tracking.offline: true, but a sweep needs its store to go on; set it to false in the base experiment")
    experiment_to_use(base.tracking.experiment, ())
    folder = study_folder(spec)
    deadline = time.monotonic() + 60 * spec.timeout_minutes if spec.timeout_minutes else None
    place = (spec_path, url, folder, workers, deadline)
    team = _team(launcher, *place) if workers != 0 else None  # first: without a cluster no study is begun
    study = open_study(spec, base, url, create=True)
    folder.mkdir(parents=True, exist_ok=True)
    tags = {"kind": "sweep", "algorithm": spec.trainer, "sweep": spec.name}
    states = optuna.trial.TrialState
    with open_run(spec.name, tags, experiment=base.tracking.experiment, resume=run_of(study)) as run:
        set_run(study, run.run_id)
        study.set_user_attr("tracking_uri", shown_uri(store_uri()))
        total = ask_for(study, spec)
        queue_again(study, 4 * spec.heartbeat_seconds)
        write_base(base, folder)
        shown = spec.model_copy(update={"storage": None})  # a URL may hold a password
        params = {f"sweep.{key}": value for key, value in flat(shown).items()}
        run.log_params({**params, **{f"versions.{name}": found for name, found in installed_versions().items()}})
        run.log_text(to_yaml(shown), "sweep.yaml")
        say(f"Sweep {spec.name}: run {run.run_id}, {total} trials, {team.size if team else 0} workers, study in {hidden(url)}")
        if team:
            _run_workers(team, spec, study, total)
            close_dead_runs([run.experiment_id])  # of trainings that were killed in the middle of an evaluation
        there = [trial.state for trial in trials_of(study)]
        outcome = SweepOutcome(
            run.run_id,
            study,
            folder,
            there.count(states.COMPLETE),
            there.count(states.PRUNED),
            there.count(states.FAIL),
            there.count(states.WAITING) + there.count(states.RUNNING),
            list(dict.fromkeys(str(trial.user_attrs[ERROR]) for trial in trials_of(study) if ERROR in trial.user_attrs)),
        )
        found = {"complete": outcome.complete, "pruned": outcome.pruned, "failed": outcome.failed}
        run.set_tags({f"trials.{name}": str(number) for name, number in found.items()})
    return outcome


def _team(launcher: str, spec_path: Path, url: str, folder: Path, workers: int | None, deadline: float | None) -> Workers:
    if launcher == "ray":
        from fashion_ml.sweep.ray_workers import RayWorkers

        return RayWorkers(spec_path, url, folder, workers, deadline)
    return LocalWorkers(spec_path, url, folder, workers, deadline)


def _run_workers(team: Workers, spec: SweepSpec, study: optuna.Study, total: int) -> None:
    """Start the workers, show the trials until all workers have ended; one that is killed is started again."""
    working, restarts, shown = set(range(team.size)), 0, 0.0
    with Live(console=console, auto_refresh=False, transient=False) as live:
        try:
            for number in sorted(working):
                team.start(number)
            while working:
                for number in sorted(working):
                    code = team.poll(number)
                    if code is None:
                        continue
                    if code in (0, 130):
                        working.remove(number)
                    elif code == _BAD_INPUT or restarts == _RESTARTS:
                        raise InputError(team.why(number, code))
                    else:
                        restarts += 1
                        say(f"worker {number} ended with {code} and is started again")
                        team.start(number)
                if console.is_terminal:
                    live.update(trial_table(study, spec, total), refresh=True)
                elif time.monotonic() - shown > _LINE_SECONDS:
                    shown = time.monotonic()
                    say(_line(study, total))
                time.sleep(_REFRESH_SECONDS)
        finally:
            team.stop()
    say(_line(study, total))


def trial_table(study: optuna.Study, spec: SweepSpec, total: int) -> Table:
    """Every trial, its settings and values, the best so far, and the time that is left."""
    table = Table(title=_line(study, total), box=None, pad_edge=False)
    names = list(spec.search_space)
    for head in ("trial", "state", *names, *(objective.metric for objective in spec.objectives)):
        table.add_column(head, justify="right" if head not in ("trial", "state") else "left")
    best = {trial.number for trial in best_trials(study)}
    for trial in trials_of(study):
        values = [f"{value:.4f}" for value in values_of_complete(trial)] or [""] * len(spec.objectives)
        mark = "bold" if trial.number in best else ""
        shown = [_short(trial.params.get(name)) for name in names]
        table.add_row(str(trial.user_attrs["slot"]), trial.state.name.lower(), *shown, *values, style=mark)
    return table


def values_of_complete(trial: optuna.trial.FrozenTrial) -> Sequence[float]:
    """The values of a complete trial; of a pruned one Optuna keeps the last number that it looked at, which is none of the objective's."""
    return trial.values if trial.state.name == "COMPLETE" else ()


def best_trials(study: optuna.Study) -> Sequence[optuna.trial.FrozenTrial]:
    """The best trial, or those of the Pareto front, among the complete ones that break no constraint; none before there is one."""
    return study.best_trials if any(trial.state.name == "COMPLETE" for trial in study.get_trials(deepcopy=False)) else []


def _line(study: optuna.Study, total: int) -> str:
    import optuna

    trials = trials_of(study)
    by_state = {state: [t for t in trials if t.state == state] for state in optuna.trial.TrialState}
    states = optuna.trial.TrialState
    ended = [*by_state[states.COMPLETE], *by_state[states.PRUNED], *by_state[states.FAIL]]
    parts = [f"{len(ended)}/{total} trials"]
    parts += [
        f"{len(by_state[state])} {state.name.lower()}"
        for state in (states.RUNNING, states.PRUNED, states.FAIL)
        if by_state[state]
    ]
    best = best_trials(study)
    if len(best) == 1:
        parts.append(f"best {best[0].values[0]:.4f} ({', '.join(f'{k} {_short(v)}' for k, v in best[0].params.items())})")
    elif best:
        parts.append(f"{len(best)} on the Pareto front")
    times = [trial.duration.total_seconds() for trial in ended if trial.duration]
    if times and len(ended) < total:
        at_once = max(len(by_state[states.RUNNING]), 1)
        parts.append(f"about {sum(times) / len(times) * (total - len(ended)) / at_once / 60:.0f} min left")
    return ", ".join(parts)


def _short(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
