"""One trial: its training as a process of its own, watched, pruned, gone on with when it was killed, and its value."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from fashion_ml.config import SweepSpec, as_overrides, read_constraint
from fashion_ml.config.sweep import Trainer
from fashion_ml.runs.ending import finish_rest
from fashion_ml.runs.run_folder import FACTS
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.module_command import module_command
from fashion_ml.runtime.own_file import open_log
from fashion_ml.runtime.parent_process import PARENT, WATCH_FILE, ChannelReader
from fashion_ml.runtime.problem_line import errors_among
from fashion_ml.sweep.own_folder import noted, own_folder
from fashion_ml.sweep.plan import LOG, TRAINING_LOCK
from fashion_ml.sweep.space import suggest
from fashion_ml.sweep.study import ERROR, PROGRESS, SLOT, SURPLUS, TRAINING_RUN, is_slot_owner, sampler_of
from fashion_ml.training.resume_point import STATE, state_step

if TYPE_CHECKING:
    import optuna

    from fashion_ml.tracking.run import TrackedRun

_KILLED_AT_MOST = 5
"""So often in a row a training may be killed without getting any further."""
_LOOK_EVERY_SECONDS, _STILL_OURS_SECONDS, _COUNT_SECONDS, _STOP_SECONDS = 0.2, 5.0, 15.0, 60.0
_WATCHED = {"median": "val_loss", "hyperband": "val_loss", "wilcoxon": "image"}

EVALUATIONS = "evaluations"
"""User attribute: the runs of a trial's evaluations."""
PROCESS_SECONDS = "process_seconds"
"""User attribute: how long the training processes of a trial have run, those that were cut off too; the rest of its time is the sweep's own."""


class TrialError(Exception):
    """The trial's settings, or its machine, do not work; the sweep goes on."""


class TrialTakenError(TrialError):
    """The worker was silent for too long, and another one goes on with its trial."""


class TrainingProcess:
    """`fashion-ml train …` in a process group of its own, which ends with this process."""

    def __init__(self, command: Sequence[str], folder: Path, run_id: str, experiment_id: str):
        self.watched = folder / "watched.jsonl"
        self.watched.unlink(missing_ok=True)
        own = {WATCH_FILE: str(self.watched), PARENT: str(os.getpid())}
        own |= {"MLFLOW_RUN_ID": run_id, "MLFLOW_EXPERIMENT_ID": experiment_id}
        with open_log(folder / LOG, "SPEC") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, **own}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to save and end; after a minute, kill it."""
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


@contextmanager
def own_slot(trial: optuna.Trial) -> Iterator[None]:
    """Around the work of a trial: TrialError where another one of its slot counts; why its settings do not work is kept with it."""
    if SLOT not in trial.user_attrs or not is_slot_owner(trial.study, trial):
        trial.set_user_attr(SURPLUS, True)
        raise TrialError(tr("surplus: another trial of its slot has ended, or goes on"))
    try:
        yield
    except TrialTakenError:
        raise
    except TrialError as error:
        trial.set_user_attr(ERROR, str(error)[:2000])
        raise


@dataclass(frozen=True)
class Training:
    """A training that a trial wants."""

    trainer: str
    base_yaml: Path
    settings: Mapping[str, str]
    """Over the base."""
    folder: Path
    name: str
    """Of its run."""
    tags: Mapping[str, str]
    seed: int
    identity: Mapping[str, str]
    """What it is beside its study and settings: another one's files are never its own."""


def trained(trial: optuna.Trial, training: Training, parent: TrackedRun, study_run: str, watched: str | None) -> dict[str, Any]:
    """The facts of a training of a trial, below the run `parent`; one that was cut off goes on, one that is there is not repeated.

    `study_run` is the id of the study's run, `watched` what a pruner looks at.
    """
    folder = own_folder(training.folder, {"study": study_run, **training.identity, **training.settings})
    run_id = _run_of(trial, training, folder, parent)
    trial.set_user_attr(PROGRESS, f"seed {training.seed}, {_progress(folder / 'run')} steps")
    try:
        return run_training(
            training.trainer,
            training.base_yaml,
            training.settings,
            folder,
            run_id,
            parent.experiment_id,
            lambda process: _watch(process, trial, watched),
        )
    except (TrialTakenError, KeyboardInterrupt):
        raise  # its run is another worker's now, or goes on later
    except Exception as error:
        pruned = _is_pruned(error)
        if pruned:
            trial.set_user_attr("stopped", str(error)[:2000])
        if pruned or isinstance(error, TrialError):
            parent.close_child(run_id, "KILLED" if pruned else "FAILED", str(error))
        raise


def _run_of(trial: optuna.Trial, training: Training, folder: Path, parent: TrackedRun) -> str:
    """The MLflow run of a training: that of its folder, that which an earlier try began, or a new one.

    A run whose files are on another machine is closed, so that no point is logged twice.
    """
    key, note = f"{TRAINING_RUN}{training.seed}", folder / "run" / "run.json"
    before = str(trial.user_attrs.get(key, ""))
    here = str(noted(note).get("run_id", "")) if note.is_file() else ""
    if before and before != here and (here or parent.begun(before)):
        lost = tr("its worker was lost with its files; the trial goes on in another run")
        parent.close_child(before, "KILLED", lost)
        before = ""
    run_id = here or before
    if not run_id:
        device = os.environ.get("CUDA_VISIBLE_DEVICES")
        run_id = parent.child(training.name, {**training.tags, **({"device": device} if device else {})}).run_id
    trial.set_user_attr(key, run_id)
    return run_id


class TrialRunner:
    """The objective of a sweep: call it with an Optuna trial, get its value, or values."""

    def __init__(self, spec: SweepSpec, base_yaml: Path, folder: Path, parent: TrackedRun):
        self._spec, self._base_yaml, self._folder, self._parent = spec, base_yaml, folder, parent

    def __call__(self, trial: optuna.Trial) -> float | list[float]:
        """Train and evaluate with every seed. TrialError when that cannot be done, TrialPruned when the pruner stopped it.

        Anything else that is raised has cut the trial off, and it is queued again.
        """
        with own_slot(trial):
            trial.study.sampler = sampler_of(self._spec, trial.user_attrs[SLOT])
            return self._value(trial)

    def _value(self, trial: optuna.Trial) -> float | list[float]:
        params = suggest(trial, self._spec.search_space)
        facts = [self.train(trial, params, seed, prune=number == 0) for number, seed in enumerate(self._spec.seeds)]
        known = [values_of(one) for one in facts]
        for text in self._spec.constraints:
            name, sign, bound = read_constraint(text)
            value = mean_of(known, name, text)
            trial.set_constraint(text, value - bound if sign == "<=" else bound - value)
        values = [mean_of(known, objective.metric, "objectives") for objective in self._spec.objectives]
        trial.set_user_attr(EVALUATIONS, [one["evaluation"]["run_id"] for one in facts if one["evaluation"]])
        return values if len(values) > 1 else values[0]

    def train(self, trial: optuna.Trial, params: Mapping[str, Any], seed: int, *, prune: bool) -> dict[str, Any]:
        """The facts of a training of a trial with one seed, as `trained` has them."""
        slot = trial.user_attrs[SLOT]
        training = Training(
            trainer=self._spec.trainer,
            base_yaml=self._base_yaml,
            settings=as_overrides({**params, "training.seed": seed, **references_of_search(self._spec)}),
            folder=self._folder / f"trial_{slot:04d}" / f"seed_{seed}",
            name=f"{self._spec.name} {slot}",
            tags={"sweep": self._spec.name, "trial": str(slot), **{f"searched.{k}": str(v) for k, v in params.items()}},
            seed=seed,
            identity={},
        )
        watched = _WATCHED.get(self._spec.pruner.name) if prune else None
        return trained(trial, training, self._parent, self._parent.run_id, watched)


PART_OF: Mapping[Trainer, str] = {"lora": "evaluation.references_part", "stargan": "evaluation.contents_part"}
"""The setting that takes one half of what an evaluation measures by."""


def references_of_search(spec: SweepSpec) -> dict[str, str]:
    """The setting that holds half of the references back, where the best trials are confirmed by them."""
    return {PART_OF[spec.trainer]: "search"} if spec.confirm.best and not spec.confirm.references else {}


def run_training(
    trainer: str,
    base_yaml: Path,
    settings: Mapping[str, str],
    folder: Path,
    run_id: str,
    experiment_id: str,
    watch: Any,
) -> dict[str, Any]:
    """Train with `settings` over `base_yaml` into `folder`, as the MLflow run `run_id`; returns the facts that the training reports.

    `watch(process)` waits for its end and returns the exit code. A training that is killed is gone on with, at most five times in a row
    from one step.
    TrialError with the training's last line of error otherwise. One process of this machine at a time works in a folder.
    """
    target, facts = folder / "run", folder / "facts.json"
    if trainer == "lora":  # encoded images and captions, and the base's images, once for all trainings of the sweep
        cache = str(base_yaml.parent / "cache")
        settings = {"data.cache_dir": cache, "evaluation.cache_dir": cache, **settings}
    command = module_command("fashion_ml", "train", trainer, "--config", str(base_yaml))
    command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    command += ["--output-dir", str(target), "--json", str(facts)]
    with FileLock(folder / TRAINING_LOCK):
        killed, came_to = 0, _progress(target)
        while killed <= _KILLED_AT_MOST:
            if facts.is_file():
                return noted(facts)
            if _is_finished(target):  # cut off between its end and the report of it
                finish_rest(target)
                write_text(facts, json.dumps(noted(target / FACTS)) + "\n")
                return noted(facts)
            if (target / "run.json").is_file():
                again = ["--resume", str(target)]
            else:
                shutil.rmtree(target, ignore_errors=True)  # it had not begun
                again = []
            process = TrainingProcess([*command, *again], folder, run_id, experiment_id)
            try:
                code = watch(process)
            except BaseException:
                process.stop()
                raise
            if code not in (0, -signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGKILL, 130, 143):
                raise TrialError(_last_error(folder / LOG, code))
            before, came_to = came_to, _progress(target)
            killed = 1 if came_to > before else killed + 1
    raise TrialError(
        tr(
            "the training was killed {killed} times without getting any further, as a machine without memory does; see {log}",
            killed=killed,
            log=folder / LOG,
        )
    )


def _progress(target: Path) -> int:
    """The step that a training in this folder would go on from; 0 where it would begin."""
    return state_step(target / STATE)


def _is_finished(target: Path) -> bool:
    note = target / "run.json"
    return note.is_file() and (target / FACTS).is_file() and bool(noted(note).get("finished"))


def wait(process: TrainingProcess) -> int:
    """Wait for a training; its exit code."""
    while (code := process.poll()) is None:
        time.sleep(_LOOK_EVERY_SECONDS)
    return code


def values_of(facts: Mapping[str, Any]) -> dict[str, float]:
    """Every number of a finished training that an objective or a constraint may name."""
    found: dict[str, Any] = {"training_seconds": facts["training_seconds"], "val_loss": facts.get("val_loss")}
    counts = facts.get("parameters")
    found["parameters"] = facts["trained_parameters"] if counts is None else sum(counts.values())
    evaluation = facts["evaluation"] or {"metrics": {}}
    for name, entry in evaluation["metrics"].items():
        found[name] = entry["lora"]["mean"] if "lora" in entry else entry["mean"]
    return {name: float(value) for name, value in found.items() if value is not None}


def mean_of(known: Sequence[Mapping[str, float]], name: str, field: str) -> float:
    """The mean of a value over trainings. TrialError, after the `field` that names it, where one has not measured it."""
    if any(name not in one for one in known):
        raise TrialError(
            tr(
                "{field}: {name!r} was not measured; there are {names}",
                field=field,
                name=name,
                names=", ".join(sorted(known[0])),
            )
        )
    return sum(one[name] for one in known) / len(known)


def _watch(process: TrainingProcess, trial: optuna.Trial, kind: str | None) -> int:
    """Wait for a training, and pass on what it tells to the pruner; TrialPruned when that has seen enough.

    What is told is better when less, so it is turned round where the objective is to grow.
    """
    clock = _Clock(trial)
    try:
        return _watched_to_its_end(process, trial, kind, clock)
    finally:
        clock.note()  # what was cut off has cost too


def _watched_to_its_end(process: TrainingProcess, trial: optuna.Trial, kind: str | None, clock: _Clock) -> int:
    import optuna

    looked = time.monotonic()
    channel, code = ChannelReader(process.watched), None
    while code is None:
        if time.monotonic() - looked > _STILL_OURS_SECONDS:
            looked = time.monotonic()
            if trial.study.get_trials(deepcopy=False)[trial.number].state != optuna.trial.TrialState.RUNNING:
                raise TrialTakenError("another worker goes on with it")
        if clock.is_due():
            clock.note()
        code = process.poll()
        values = [(step, value) for found, step, value in channel.new() if found == kind]
        for step, value in values:
            sign = 1 if trial.study.direction == optuna.study.StudyDirection.MINIMIZE else -1
            trial.report(sign * value, step)
        if values and code is None and trial.should_prune():
            raise optuna.TrialPruned(f"at {kind} {values[-1][0]}")
        if code is None:
            time.sleep(_LOOK_EVERY_SECONDS)
    return code


class _Clock:
    """Adds to a trial how long its training process runs; now and then, for nobody notes the end of a worker that is killed."""

    def __init__(self, trial: optuna.Trial):
        self._trial, self._noted = trial, time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to note it again."""
        return time.monotonic() - self._noted > _COUNT_SECONDS

    def note(self) -> None:
        """Add the time since the last note, where the trial is still this worker's."""
        import optuna

        spent, self._noted = time.monotonic() - self._noted, time.monotonic()
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._trial.set_user_attr(PROCESS_SECONDS, float(self._trial.user_attrs.get(PROCESS_SECONDS, 0.0)) + spent)


def _is_pruned(error: BaseException) -> bool:
    import optuna

    return isinstance(error, optuna.TrialPruned)


def _last_error(log: Path, code: int) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last, said = lines[-1] if lines else tr("it said nothing"), errors_among(lines)
    return said[-1] if said else tr("the training ended with {code}: {last}; see {log}", code=code, last=last, log=log)
