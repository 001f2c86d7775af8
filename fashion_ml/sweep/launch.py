"""A study and its run, its workers, and a table that shows how it goes: what a sweep does, and what a suite does too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.live import Live
from rich.table import Table

from fashion_ml.config import SweepSpec, flat, to_yaml
from fashion_ml.errors import InputError
from fashion_ml.runs.check_inputs import check_inputs
from fashion_ml.runtime.atomic_files import remove_leftovers
from fashion_ml.runtime.console import console, say
from fashion_ml.runtime.duration import duration
from fashion_ml.runtime.folder_lock import folder_lock
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.provenance import installed_versions
from fashion_ml.sweep.local_workers import LocalWorkers, Workers
from fashion_ml.sweep.own_folder import say_damaged
from fashion_ml.sweep.plan import Spec, check_opened, study_folder
from fashion_ml.sweep.ranked import best_trials, tied_with_best
from fashion_ml.sweep.silence import Silence
from fashion_ml.sweep.study import (
    ERROR,
    TRAINING_RUN,
    has_work,
    hidden,
    open_planned,
    plan_of,
    queue,
    queue_again,
    retry_failed,
    run_of,
    set_run,
    trials_of,
)
from fashion_ml.sweep.worker import write_base

if TYPE_CHECKING:
    import optuna

    from fashion_ml.tracking.run import TrackedRun

_REFRESH_SECONDS, _LINE_SECONDS = 2.0, 30.0
_RESTARTS, _BAD_INPUT = 20, 2


@dataclass(frozen=True)
class Outcome:
    """What has become of a study's trials so far."""

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
    spec: SweepSpec,
    base: Any,
    spec_path: Path,
    url: str,
    *,
    workers: int | None = None,
    launcher: str = "local",
    again: bool = False,
) -> Outcome:
    """Begin the study or go on with it, run what remains of its trials, and log its run; `workers` is one for each GPU by default.

    `launcher` is `local`, or `ray` for the GPUs of a Ray cluster. With 0 workers the trials are only queued, for workers elsewhere. With
    `again` those that failed are run once more. InputError for what a user can mend.
    """
    with study_lock(spec):
        team = team_for(spec, base, spec_path, url, workers, launcher)
        plan = plan_of(spec, base)
        if workers != 0 and launcher == "local" and (again or has_work(plan, url)):
            check_inputs({"": base})
        study = open_planned(plan, url, create=True)
        with begun(spec, study, base.tracking.experiment) as run:
            total = queue(study, plan.slots)
            queue_again(study, Silence(4 * spec.heartbeat_seconds))
            if again:
                say_retried(retry_failed(study), tr("trials"))
            write_base(base, study_folder(spec))
            say(
                tr(
                    "Sweep {name}: run {run_id}, {total} trials, {size} workers, study in {hidden}",
                    name=spec.name,
                    run_id=run.run_id,
                    total=total,
                    size=team.size if team else 0,
                    hidden=hidden(url),
                )
            )
            if team:
                run_workers(team, lambda: trial_table(study, spec, total), lambda: _line(study, total))
            return ended(study, run, study_folder(spec))


@contextmanager
def study_lock(spec: Spec) -> Iterator[None]:
    """Around the work of a study's command on this machine, before anything of it is written: a second one would log to the same runs.

    InputError too where what is to be opened in its folder is a link, or no file.
    """
    fix = tr("wait for its end; more workers are added by fashion-ml {kind}-worker", kind=spec.kind)
    with folder_lock(study_folder(spec), "SPEC", fix):
        check_opened(spec)
        remove_leftovers(study_folder(spec))
        yield


def team_for(spec: Spec, base: Any, spec_path: Path, url: str, workers: int | None, launcher: str) -> Workers | None:
    """The workers of a study, not started yet; None for none. Before any study is begun: without a cluster there is none to begin.

    InputError for a store or a cluster that cannot be used.
    """
    from fashion_ml.tracking.environment import experiment_to_use

    if base.tracking.offline:
        raise InputError(
            tr(
                "tracking.offline: true, but a {kind} needs its store to go on; set it to false in the base experiment",
                kind=spec.kind,
            )
        )
    experiment_to_use(base.tracking.experiment, ())
    deadline = time.monotonic() + 60 * spec.timeout_minutes if spec.timeout_minutes else None
    return _team(launcher, spec.kind, spec_path, url, study_folder(spec), workers, deadline) if workers != 0 else None


@contextmanager
def begun(spec: Spec, study: optuna.Study, experiment: str) -> Iterator[TrackedRun]:
    """The run of a study, begun or gone on with, around what is done with it; when that is stopped no run of a dead process stays open."""
    from fashion_ml.runs.ending import close_dead_runs, remove_empty
    from fashion_ml.tracking.mlflow_private import remove_half_uploads
    from fashion_ml.tracking.queries import was_removed_empty
    from fashion_ml.tracking.run import open_run
    from fashion_ml.tracking.store import shown_uri, store_uri

    study_folder(spec).mkdir(parents=True, exist_ok=True)
    say_damaged(study_folder(spec))
    tags = {"kind": spec.kind, "algorithm": spec.trainer, spec.kind: spec.name}
    before = run_of(study)
    resume = "" if before and was_removed_empty(before) else before
    with open_run(spec.name, tags, experiment=experiment, resume=resume) as run:
        set_run(study, run.run_id)
        remove_empty([run.experiment_id])
        remove_half_uploads(run.client.get_run(run.run_id).info.artifact_uri)
        study.set_user_attr("tracking_uri", shown_uri(store_uri()))
        shown = spec.model_copy(update={"storage": None})  # a URL may hold a password
        # a recipe's name may hold what no param's may; its own run has its settings
        params = {f"{spec.kind}.{key}": value for key, value in flat(shown).items() if not key.startswith("recipes.")}
        run.log_params({**params, **{f"versions.{name}": found for name, found in installed_versions().items()}})
        run.log_text(to_yaml(shown), f"{spec.kind}.yaml")
        try:
            yield run
        except BaseException:
            with suppress(Exception):  # what ended the study is the one to show
                close_dead_runs([run.experiment_id])  # of a training that had a run and had not begun
            raise


def say_retried(number: int, what: str) -> None:
    """Say how many trials or trainings, `what`, that had failed are queued again."""
    say(
        tr("{number} {what} that failed are queued again", number=number, what=what)
        if number
        else tr("No {what} have failed: nothing to try again", what=what)
    )


def ended(study: optuna.Study, run: TrackedRun, folder: Path) -> Outcome:
    """What has become of the trials, also as tags of the study's run; runs that killed trainings left open are closed."""
    import optuna

    from fashion_ml.runs.ending import close_dead_runs, remove_empty
    from fashion_ml.tracking.known_runs import PARENT_TAG
    from fashion_ml.tracking.run import runs_below

    known = {str(value) for trial in study.trials for key, value in trial.user_attrs.items() if key.startswith(TRAINING_RUN)}
    own = {run.run_id, *(one.info.run_id for one in runs_below(run))}
    remove_empty(
        [run.experiment_id],
        lambda one: (
            one.data.tags.get(PARENT_TAG) in own
            and one.data.tags.get("kind", "train_").startswith("train_")
            and one.info.run_id not in known
        ),
    )
    close_dead_runs([run.experiment_id])  # of trainings that were killed in the middle of an evaluation
    trials, states = trials_of(study), optuna.trial.TrialState
    there = [trial.state for trial in trials]
    complete, pruned, failed = (there.count(state) for state in (states.COMPLETE, states.PRUNED, states.FAIL))
    found = {"complete": complete, "pruned": pruned, "failed": failed}
    run.set_tags({f"trials.{name}": str(number) for name, number in found.items()})
    left = there.count(states.WAITING) + there.count(states.RUNNING)
    errors = list(dict.fromkeys(str(trial.user_attrs[ERROR]) for trial in trials if ERROR in trial.user_attrs))
    return Outcome(run.run_id, study, folder, complete, pruned, failed, left, errors)


def _team(
    launcher: str, kind: str, spec_path: Path, url: str, folder: Path, workers: int | None, deadline: float | None
) -> Workers:
    if launcher == "ray":
        from fashion_ml.sweep.ray_workers import RayWorkers

        return RayWorkers(kind, spec_path, url, folder, workers, deadline)
    return LocalWorkers(kind, spec_path, url, folder, workers, deadline)


def run_workers(team: Workers, table: Callable[[], RenderableType], line: Callable[[], str]) -> None:
    """Start the workers, show the trials until all workers have ended, as a table or in a line; one that is killed is started again."""
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
                        say(tr("worker {number} ended with {code} and is started again", number=number, code=code))
                        team.start(number)
                if console.is_terminal:
                    live.update(table(), refresh=True)
                elif time.monotonic() - shown > _LINE_SECONDS:
                    shown = time.monotonic()
                    say(line())
                time.sleep(_REFRESH_SECONDS)
        finally:
            team.stop()
    say(line())


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


def _line(study: optuna.Study, total: int) -> str:
    best = best_trials(study)
    found = []
    if len(best) == 1 and len(study.directions) == 1:
        tied = tied_with_best(study)
        found = [
            tr(
                "best {values:.4f} ({names})",
                values=best[0].values[0],
                names=", ".join((f"{k} {_short(v)}" for k, v in best[0].params.items())),
            )
        ]
        found += [tr("{count} trials tie", count=len(tied))] if tied else []
    elif best:
        found = [tr("{count} on the Pareto front", count=len(best))]
    return progress(study, total, tr("trials"), found)


def progress(study: optuna.Study, total: int, what: str, found: Sequence[str] = ()) -> str:
    """How many trials, called `what`, have ended, how the others are, what was `found`, and the time that is left."""
    import optuna

    trials, states = trials_of(study), optuna.trial.TrialState
    by_state = {state: [trial for trial in trials if trial.state == state] for state in states}
    done = [*by_state[states.COMPLETE], *by_state[states.PRUNED], *by_state[states.FAIL]]
    counts = {state: len(those) for state, those in by_state.items()}
    parts = [f"{len(done)}/{total} {what}"]
    parts += [tr("{count} running", count=counts[states.RUNNING])] if counts[states.RUNNING] else []
    parts += [tr("{count} pruned", count=counts[states.PRUNED])] if counts[states.PRUNED] else []
    parts += [tr("{count} failed", count=counts[states.FAIL])] if counts[states.FAIL] else []
    parts += found
    times = [trial.duration.total_seconds() for trial in done if trial.duration]
    if times and len(done) < total:
        at_once = max(len(by_state[states.RUNNING]), 1)
        parts.append(tr("about {duration} left", duration=duration(sum(times) / len(times) * (total - len(done)) / at_once)))
    return ", ".join(parts)


def _short(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
