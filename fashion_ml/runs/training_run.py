"""One training from a checked experiment to a finished run, for both trainers: what their own modules do not say is here."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from fashion_ml.config import EXPERIMENTS, LoraExperiment, StarganExperiment, flat
from fashion_ml.config.recipe import RECIPE, recipe_id, recipe_of
from fashion_ml.errors import InputError
from fashion_ml.runs.resume import length_of
from fashion_ml.runs.run_folder import (
    FACTS,
    Experiment,
    RunFolder,
    given_folder,
    move_aside,
    run_folder,
    shared_folder,
    tensorboard,
    write_run_folder,
)
from fashion_ml.runs.run_name import DESCRIBED
from fashion_ml.runs.warm_start import is_main
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.console import say
from fashion_ml.runtime.folder_lock import folder_lock, lock_again
from fashion_ml.runtime.gpu_memory import full_memory
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.printable import near
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
E = TypeVar("E", LoraExperiment, StarganExperiment)


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
    offline: bool = False
    """Whether the run waits in its folder to be sent, under an id of its own until then."""
    name: str = ""
    """What the run is called; empty without tracking."""

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
    name: str = ""
    """What the run is called by what it is; its name where it is given none."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Facts beside the settings and versions."""


def check_data(earlier: RunFolder | None, digest: str, expected: str, field: str, what: str) -> None:
    """InputError when the data are not those of the run that goes on, or not of the `expected` digest; `what` is their plural."""
    if earlier and earlier.data_digest and earlier.data_digest != digest:
        raise InputError(
            tr("{field}: {what} have changed since the run began; restore them, or use --new", field=field, what=what)
        )
    if expected and expected != digest:
        raise InputError(tr("{field}: {what} are not those of the run; restore them", field=field, what=what))


def training_run(
    config: Experiment,
    about: About,
    earlier: RunFolder | None,
    accelerator: Any,
    *,
    new: bool,
    track: bool,
    chosen: Collection[str],
    train: Callable[[TrackedRun | None, Path], Trained],
    evaluate: Callable[[TrackedRun | None, Path, Trained], Result] | None,
) -> Outcome[Trained, Result]:
    """Make way if `new`, open the run or go on with `earlier`, note everything that says what it is, train, and measure what came out.

    `chosen` are the paths of settings that the user gave to the command itself.

    `train(run, folder)` and `evaluate(run, folder, trained)` are the trainer's; without `track` their run is None and nothing imports
    MLflow. Only the main process is here; the others wait to be told the folder.
    """
    aside = move_aside(config) if new else None
    if aside:
        lock_again(given_folder(config) or aside, aside)
        say(tr("What was in {output_dir} is now in {aside}", output_dir=config.output.output_dir, aside=aside))
    if track and earlier and not config.tracking.offline:
        earlier = _online(earlier)
    with ExitStack() as held, _opened(config, about, earlier, chosen) if track else nullcontext() as run:
        note = _note(config, about, earlier, run)
        held.enter_context(folder_lock(note.path))  # one that is named after its run is known only now
        folder = shared_folder(note.path, accelerator)
        say(
            tr("Run       {name} ({run_id})", name=run.name, run_id=note.run_id) + (tr(", going on") if earlier else "")
            if run
            else tr("Not tracked (no MLflow)")
        )
        say(tr("Files     {folder}", folder=near(folder)))
        if run and run.offline:
            say(tr("Offline: all of it is kept there, until it is sent by: fashion-ml sync {folder}", folder=folder))
        write_run_folder(note, config)
        if run:
            _describe(run, config, about, folder, chosen, fresh=not (earlier and earlier.run_id))
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
                given = "" if run is None else str(folder) if run.offline else run.run_id
                how = tr(". Measure it by: fashion-ml evaluate run {folder}", folder=given) if given else ""
                say(tr("It is trained and saved: {path}", path=trained.path) + how)
                raise
        tracked = (run.offline, run.name) if run else (False, "")
        outcome = Outcome(note.run_id, run.experiment_id if run else "", folder, trained, result, *tracked)
        _report(outcome, config, about, run)
        write_text(folder / FACTS, json.dumps(outcome.to_dict(), indent=2, allow_nan=False) + "\n")
        write_run_folder(replace(note, finished=True, length=length_of(config)))
    return outcome


def _report(outcome: Outcome[Trained, Result], config: Experiment, about: About, run: TrackedRun | None) -> None:
    from fashion_ml.runs.run_report import write_run_report

    said = str(getattr(outcome.evaluation, "sentence", ""))
    name = outcome.name or config.name or about.name
    write_run_report(config, name, about.what, outcome.folder, run, outcome.trained.to_dict(), said)


def algorithm_of(config: Experiment) -> str:
    """`lora` or `stargan`."""
    return next(name for name, kind in EXPERIMENTS.items() if isinstance(config, kind))


def in_experiment(config: E, chosen: Collection[str], earlier: RunFolder | None = None, *, make: bool = True) -> E:
    """The config with the name of the experiment that its run is in, as MLflow's environment, or the run that goes on, decides.

    The store is asked, for one that cannot be used is to be said before anything slow; not where the run is offline. InputError. Without
    `make` no store is made.
    """
    from fashion_ml.tracking.environment import experiment_named

    given = config.tracking.experiment
    if config.tracking.offline or not is_main():
        name = experiment_named(given, chosen)
    else:
        name = _asked_experiment(given, chosen, earlier, make=make)
    return config.model_copy(update={"tracking": config.tracking.model_copy(update={"experiment": name})})


def _asked_experiment(given: str, chosen: Collection[str], earlier: RunFolder | None, *, make: bool) -> str:
    from fashion_ml.tracking.environment import experiment_of, experiment_to_use
    from fashion_ml.tracking.offline_client import is_pending
    from fashion_ml.tracking.store import open_tracking, run_to_resume

    if earlier is None or not earlier.run_id or is_pending(earlier.run_id):
        return experiment_to_use(given, chosen, make=make)
    client = open_tracking()
    return experiment_of(client, run_to_resume(client, earlier.run_id))


def _online(earlier: RunFolder) -> RunFolder:
    """The run to go on with, in the store where it was offline so far."""
    from fashion_ml.runs.ending import into_store

    return into_store(earlier)


def _opened(
    config: Experiment, about: About, earlier: RunFolder | None, chosen: Collection[str]
) -> AbstractContextManager[TrackedRun]:
    from fashion_ml.tracking.run import FOLDER_TAG, open_offline_run, open_run

    algorithm = algorithm_of(config)
    tags = {
        "kind": f"train_{algorithm}",
        "algorithm": algorithm,
        "base_model": about.base_model,
        "data_digest": about.digest,
        RECIPE: recipe_id(type(config), recipe_of(type(config), flat(config), about.digest)),
        DESCRIBED: about.name,
    }
    place = (
        earlier.path if earlier else given_folder(config) or run_folder(config, "")
    )  # the folder above, until the run has an id
    tags[FOLDER_TAG] = str(place.absolute())
    name = config.name or about.name
    going_on = earlier if earlier and earlier.run_id else None  # a folder without a run becomes that of a new one
    if config.tracking.offline:
        from fashion_ml.tracking.offline_client import pending_id

        run_id = going_on.run_id if going_on else pending_id()
        folder = earlier.path if earlier else run_folder(config, run_id)
        where = config.tracking.experiment
        return open_offline_run(name, tags, folder, run_id, experiment=where, chosen=chosen, resume=going_on is not None)
    if going_on is None:
        from fashion_ml.runs.ending import remove_not_begun

        remove_not_begun(config.tracking.experiment)
    return open_run(
        name,
        tags,
        experiment=config.tracking.experiment,
        resume=going_on.run_id if going_on else "",
        spool=going_on.path if going_on else None,
        chosen=chosen,
    )


def _note(config: Experiment, about: About, earlier: RunFolder | None, run: TrackedRun | None) -> RunFolder:
    """Whose folder it is. Without tracking it stays that of the run it was begun by, if there is one."""
    if run is None or run.offline:
        run_id, uri = (earlier.run_id, earlier.tracking_uri) if earlier else ("", "")
        run_id = run.run_id if run else run_id
    else:
        from fashion_ml.tracking.store import shown_uri, store_uri

        run_id, uri = run.run_id, shown_uri(store_uri())
    place = earlier.path if earlier else run_folder(config, run_id or f"untracked_{datetime.now():%Y%m%d_%H%M%S_%f}")
    return RunFolder(place, run_id, uri, about.digest, finished=False)


def _describe(run: TrackedRun, config: Experiment, about: About, folder: Path, chosen: Collection[str], *, fresh: bool) -> None:
    """Everything that is known before training."""
    from fashion_ml.tracking.environment import wanted_experiment
    from fashion_ml.tracking.run import FOLDER_TAG

    if fresh:
        run.set_tags({FOLDER_TAG: str(folder)})  # told at once: the store knows where a run that is killed has left its files
    if fresh and not run.offline:
        run.spool_to(folder)
    versions = {f"versions.{name}": found for name, found in installed_versions().items()}
    params = {**flat(config), **versions, **about.params}
    by_id = wanted_experiment(config.tracking.experiment, chosen)["id"] if run.offline else ""
    run.log_params(
        params | ({"tracking.experiment": f"MLFLOW_EXPERIMENT_ID {by_id}"} if by_id else {})
    )  # its name is the store's
    run.log_file(folder / "config.yaml")
    run.log_dataset(about.data, about.digest, "training", about.count)
    run.log_source()
    run.describe(about.what)


def _log_training_files(run: TrackedRun, folder: Path, config: Experiment) -> None:
    """Log and weights of this training as they are, also when it was interrupted; other files of the folder stay out."""
    name = config.output.output_name
    words = (config.embedding.token,) if isinstance(config, LoraExperiment) else ()
    for path in sorted((folder / "training_logs").glob("*")):
        run.log_file(path, "training_logs")
    for path in sorted(folder.glob("*.safetensors")):
        if path.stem in (name, "best", *words) or path.stem.startswith(f"{name}-"):
            run.log_file(path, algorithm_of(config))


Point = tuple[int, "float | None", Mapping[str, float]]
"""Step or epoch, time in seconds since 1970 (now for None), and what was measured at it."""


@contextmanager
def measurements(
    run: TrackedRun | None, config: Experiment, folder: Path, *, after: int, too_large: str
) -> Iterator[Callable[[Iterable[Point]], None]]:
    """Around a training: what it is given goes to the run and, where that is asked for, to TensorBoard; points behind `after` come again.

    InputError `too_large` when memory, the GPU's or the machine's, is full.
    """
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
    except (RuntimeError, MemoryError) as error:
        where = full_memory(error)
        if where is None:
            raise
        raise InputError(too_large.replace("the GPU's memory", where)) from error
    finally:
        if board:
            board.close()
