"""One training from a checked experiment to a finished run, for both trainers: what their own modules do not say is here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from fashion_ml.config import EXPERIMENTS, flat
from fashion_ml.errors import InputError
from fashion_ml.runs.resume import find_run_to_resume
from fashion_ml.runs.run_folder import (
    FACTS,
    Experiment,
    RunFolder,
    check_output_folder,
    check_tensorboard,
    move_aside,
    run_folder,
    shared_folder,
    tensorboard,
    write_run_folder,
)
from fashion_ml.runs.warm_start import is_main
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.console import say
from fashion_ml.runtime.provenance import installed_versions

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from fashion_ml.tracking.run import TrackedRun


class Facts(Protocol):
    """What can say itself as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """For `--json`; not measured is null."""


class Weights(Facts, Protocol):
    """What a training leaves."""

    @property
    def path(self) -> Path:
        """The file of the weights."""


Trained = TypeVar("Trained", bound=Weights)
Result = TypeVar("Result", bound=Facts)


@dataclass(frozen=True)
class Outcome(Generic[Trained, Result]):
    """What an experiment left behind."""

    run_id: str
    """Empty without tracking."""
    experiment_id: str
    folder: Path
    trained: Trained
    evaluation: Result | None
    """None when evaluation was switched off: then there are no image metrics anywhere."""

    def to_dict(self) -> dict[str, Any]:
        """The same facts as printed, for `--json`; not measured is null."""
        return {
            "run_id": self.run_id,
            "experiment_id": self.experiment_id,
            "output_dir": str(self.folder),
            **self.trained.to_dict(),
            "evaluation": self.evaluation.to_dict() if self.evaluation else None,
        }


@dataclass(frozen=True)
class About:
    """What a trainer says of a training before it begins."""

    base_model: str
    what: str
    """A sentence for the run's page."""
    data: Path
    digest: str
    count: int
    """Images or latents that are trained on."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Facts beside the settings and versions."""


def begin(config: Experiment, *, resume: str, new: bool) -> RunFolder | None:
    """Check where the files are to go, before anything slow; returns the folder of the run that goes on. InputError when it cannot be used."""
    if resume and new:
        raise InputError("new: contradicts resume; give one of them")
    check_tensorboard(config.tracking.log_with)
    if resume:
        return find_run_to_resume(resume, config)
    if is_main():
        check_output_folder(config, new)
    return None


def check_data(earlier: RunFolder | None, digest: str, expected: str, field: str, what: str) -> None:
    """InputError when the data are not those of the run that goes on, or not of the `expected` digest; `what` is their plural."""
    if earlier and earlier.data_digest != digest:
        raise InputError(f"{field}: {what} have changed since the run began; restore them, or use --new")
    if expected and expected != digest:
        raise InputError(f"{field}: {what} are not those of the run; restore them")


def training_run(
    config: Experiment,
    about: About,
    earlier: RunFolder | None,
    accelerator: Any,
    *,
    new: bool,
    track: bool,
    train: Callable[[TrackedRun | None, Path], Trained],
    evaluate: Callable[[TrackedRun | None, Path, Trained], Result] | None,
) -> Outcome[Trained, Result]:
    """Make way if `new`, open the run or go on with `earlier`, note everything that says what it is, train, and measure what came out.

    `train(run, folder)` and `evaluate(run, folder, trained)` are the trainer's; without `track` their run is None and nothing imports
    MLflow. Only the main process is here; the others wait to be told the folder.
    """
    aside = move_aside(config) if new else None
    if aside:
        say(f"What was in {config.output.output_dir} is now in {aside}")
    with _opened(config, about, earlier) if track else nullcontext() as run:
        note = _note(config, about, earlier, run)
        folder = shared_folder(note.path, accelerator)
        say((f"Run {note.run_id}, files in" if run else "Files in") + f" {folder}" + (", going on" if earlier else ""))
        write_run_folder(note, config)
        if run:
            _describe(run, config, about, folder, fresh=not (earlier and earlier.run_id))
        try:
            trained = train(run, folder)
        finally:
            if run:
                _log_training_files(run, folder, config)
        result = None
        if evaluate:
            try:
                result = evaluate(run, folder, trained)
            except Exception:
                say(
                    f"It is trained and saved: {trained.path}"
                    + (f". Measure it by: fashion-ml evaluate run {run.run_id}" if run else "")
                )
                raise
        outcome = Outcome(note.run_id, run.experiment_id if run else "", folder, trained, result)
        write_text(folder / FACTS, json.dumps(outcome.to_dict(), indent=2, allow_nan=False) + "\n")
        write_run_folder(replace(note, finished=True))
    return outcome


def algorithm_of(config: Experiment) -> str:
    """`lora` or `stargan`."""
    return next(name for name, kind in EXPERIMENTS.items() if isinstance(config, kind))


def _opened(config: Experiment, about: About, earlier: RunFolder | None) -> AbstractContextManager[TrackedRun]:
    from fashion_ml.tracking.run import open_run

    algorithm = algorithm_of(config)
    tags = {
        "kind": f"train_{algorithm}",
        "algorithm": algorithm,
        "base_model": about.base_model,
        "data_digest": about.digest,
    }
    going_on = earlier if earlier and earlier.run_id else None  # a folder without a run becomes that of a new one
    return open_run(
        config.name,
        tags,
        experiment=config.tracking.experiment,
        resume=going_on.run_id if going_on else "",
        spool=going_on.path if going_on else None,
    )


def _note(config: Experiment, about: About, earlier: RunFolder | None, run: TrackedRun | None) -> RunFolder:
    """Whose folder it is. Without tracking it stays that of the run it was begun by, if there is one."""
    if run is None:
        run_id, uri = (earlier.run_id, earlier.tracking_uri) if earlier else ("", "")
    else:
        from fashion_ml.tracking.store import shown_uri, store_uri

        run_id, uri = run.run_id, shown_uri(store_uri())
    place = earlier.path if earlier else run_folder(config, run_id or f"untracked_{datetime.now():%Y%m%d_%H%M%S_%f}")
    return RunFolder(place, run_id, uri, about.digest, finished=False)


def _describe(run: TrackedRun, config: Experiment, about: About, folder: Path, *, fresh: bool) -> None:
    """Everything that is known before training."""
    if fresh:
        run.spool_to(folder)
    versions = {f"versions.{name}": found for name, found in installed_versions().items()}
    run.log_params({**flat(config), **versions, **about.params})
    run.log_file(folder / "config.yaml")
    run.log_dataset(about.data, about.digest, "training", about.count)
    run.log_source()
    run.describe(about.what)


def _log_training_files(run: TrackedRun, folder: Path, config: Experiment) -> None:
    """Log and weights of this training as they are, also when it was interrupted; other files of the folder stay out."""
    name = config.output.output_name
    for path in sorted((folder / "training_logs").glob("*")):
        run.log_file(path, "training_logs")
    for path in sorted(folder.glob("*.safetensors")):
        if path.stem in (name, "best") or path.stem.startswith(f"{name}-"):
            run.log_file(path, algorithm_of(config))


Point = tuple[int, "float | None", Mapping[str, float]]
"""Step or epoch, time in seconds since 1970 (now for None), and what was measured at it."""


@contextmanager
def measurements(
    run: TrackedRun | None, config: Experiment, folder: Path, *, after: int, too_large: str
) -> Iterator[Callable[[Iterable[Point]], None]]:
    """Around a training: what it is given goes to the run and, where that is asked for, to TensorBoard; points behind `after` come again.

    InputError `too_large` when the GPU's memory is full.
    """
    import torch

    board = tensorboard(config.tracking.log_with, folder, after)

    def write(points: Iterable[Point]) -> None:
        for step, time, figures in points:
            if run:
                run.log_metrics(figures, step=step, time=time)
            for key, value in figures.items() if board else ():
                board.add_scalar(key, value, step, time)
        if board:
            board.flush()  # a process that is killed writes nothing more
        if run:
            run.flush()

    try:
        yield write
    except torch.OutOfMemoryError as error:
        raise InputError(too_large) from error
    finally:
        if board:
            board.close()
