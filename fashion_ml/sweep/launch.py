"""A sweep on this machine: the study and its run, a worker for each GPU, and a table that shows how it goes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table

from fashion_ml.config import SweepSpec, flat, to_yaml
from fashion_ml.errors import InputError
from fashion_ml.packages import installed_versions
from fashion_ml.progress import console, say
from fashion_ml.sweep.study import STORAGE, ask_for, hidden, open_study, run_of, set_run, study_folder, trials_of
from fashion_ml.watching import PARENT

if TYPE_CHECKING:
    import optuna

_REFRESH_SECONDS, _LINE_SECONDS = 2.0, 30.0
_RESTARTS = 20


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


def run_sweep(spec: SweepSpec, base: Any, spec_path: Path, url: str, *, workers: int | None = None) -> SweepOutcome:
    """Begin the study or go on with it, run what remains of its trials, and log its run; `workers` is one for each GPU by default.

    With 0 workers the trials are only queued, for workers elsewhere. InputError for what a user can mend.
    """
    import optuna

    from fashion_ml.tracking import open_run, store_uri

    folder = study_folder(spec)
    folder.mkdir(parents=True, exist_ok=True)
    study = open_study(spec, base, url, create=True)
    count = len(_gpus()) or 1 if workers is None else workers
    tags = {"kind": "sweep", "algorithm": spec.trainer, "sweep": spec.name}
    states = optuna.trial.TrialState
    with open_run(spec.name, tags, experiment=base.tracking.experiment, resume=run_of(study)) as run:
        set_run(study, run.run_id)
        study.set_user_attr("tracking_uri", store_uri())
        total = ask_for(study, spec)
        shown = spec.model_copy(update={"storage": None})  # a URL may hold a password
        params = {f"sweep.{key}": value for key, value in flat(shown).items()}
        run.log_params({**params, **{f"versions.{name}": found for name, found in installed_versions().items()}})
        run.log_text(to_yaml(shown), "sweep.yaml")
        say(f"Sweep {spec.name}: run {run.run_id}, {total} trials, {count} workers, study in {hidden(url)}")
        if count:
            _run_workers(spec, spec_path, url, folder, study, count, total)
        there = [trial.state for trial in trials_of(study)]
        outcome = SweepOutcome(
            run.run_id,
            study,
            folder,
            there.count(states.COMPLETE),
            there.count(states.PRUNED),
            there.count(states.FAIL),
            there.count(states.WAITING) + there.count(states.RUNNING),
        )
        found = {"complete": outcome.complete, "pruned": outcome.pruned, "failed": outcome.failed}
        run.set_tags({f"trials.{name}": str(number) for name, number in found.items()})
    return outcome


def _run_workers(spec: SweepSpec, spec_path: Path, url: str, folder: Path, study: optuna.Study, count: int, total: int) -> None:
    """Start the workers, show the trials until all workers have ended; one that is killed is started again."""
    deadline = time.monotonic() + 60 * spec.timeout_minutes if spec.timeout_minutes else None
    processes = {number: _start(spec_path, url, folder, number, count, deadline) for number in range(count)}
    restarts, shown = 0, 0.0
    with Live(console=console, auto_refresh=False, transient=False) as live:
        try:
            while processes:
                for number, process in list(processes.items()):
                    code = process.poll()
                    if code is None:
                        continue
                    del processes[number]
                    if code < 0 and restarts < _RESTARTS:
                        restarts += 1
                        processes[number] = _start(spec_path, url, folder, number, count, deadline)
                    elif code not in (0, 130):
                        raise InputError(_said(folder / f"worker_{number}.log", number, code))
                if console.is_terminal:
                    live.update(trial_table(study, spec, total), refresh=True)
                elif time.monotonic() - shown > _LINE_SECONDS:
                    shown = time.monotonic()
                    say(_line(study, total))
                time.sleep(_REFRESH_SECONDS)
        finally:
            for process in processes.values():
                process.terminate()
            for process in processes.values():
                process.wait()
    say(_line(study, total))


def _start(spec_path: Path, url: str, folder: Path, number: int, count: int, deadline: float | None) -> subprocess.Popen[bytes]:
    gpus, own = _gpus(), {PARENT: str(os.getpid()), STORAGE: url}
    if gpus:
        own["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    else:
        own["OMP_NUM_THREADS"] = str(max((os.cpu_count() or 1) // count, 1))
    left = [] if deadline is None else ["--seconds", f"{max(deadline - time.monotonic(), 0):.0f}"]
    command = [sys.executable, "-m", "fashion_ml", "sweep-worker", str(spec_path), "--worker", str(number)]
    with (folder / f"worker_{number}.log").open("ab") as log:
        return subprocess.Popen(
            [*command, *left],
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _gpus() -> list[str]:
    """The visible GPUs, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def trial_table(study: optuna.Study, spec: SweepSpec, total: int) -> Table:
    """Every trial, its settings and values, the best so far, and the time that is left."""
    table = Table(title=_line(study, total), box=None, pad_edge=False)
    names = list(spec.search_space)
    for head in ("trial", "state", *names, *(objective.metric for objective in spec.objectives)):
        table.add_column(head, justify="right" if head not in ("trial", "state") else "left")
    best = {trial.number for trial in best_trials(study)}
    for trial in trials_of(study):
        values = [f"{value:.4f}" for value in trial.values or ()] or [""] * len(spec.objectives)
        mark = "bold" if trial.number in best else ""
        shown = [_short(trial.params.get(name)) for name in names]
        table.add_row(str(trial.user_attrs["slot"]), trial.state.name.lower(), *shown, *values, style=mark)
    return table


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


def _said(log: Path, number: int, code: int) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else f"worker {number} ended with {code}; see {log}"
