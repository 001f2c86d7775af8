"""A finished training that something is done with again: its run, and its files from the store, or from its folder where it is offline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.errors import InputError
from fashion_ml.runs.run_folder import read_run_folder
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.yaml_file import read_mapping
from fashion_ml.tracking.offline_client import is_pending

if TYPE_CHECKING:
    from fashion_ml.tracking.run import TrackedRun


@dataclass(frozen=True)
class TrainedRun:
    """A training run and its files."""

    run: TrackedRun
    kind: str
    """Its tag `kind`; empty without one."""
    bring: Callable[[str, Path], Path]
    """`bring(artifact, place)` gives a file, or a folder, of the run, copied to `place` where it must be; InputError without it."""
    files: Callable[[str], list[str]]
    """The names of the artifacts in a folder of them."""


def training_meant(given: str) -> tuple[str, str]:
    """The tag `kind` of the training that is meant, and its id, or its folder where that was given. InputError without such a run."""
    with trained_run(given) as trained:
        folder = bool(given) and Path(given).expanduser().is_dir()
        return trained.kind, given if folder else trained.run.run_id


@contextmanager
def trained_run(given: str) -> Iterator[TrainedRun]:
    """The training that an id, its first digits, a run's name, `latest`, or a run's folder means. InputError when there is none."""
    folder, given_folder = Path(given).expanduser().absolute(), bool(given) and Path(given).expanduser().is_dir()
    note = read_run_folder(folder, "run_id", tr("bring back a copy of it, or give the run's id")) if given_folder else None
    if given_folder and (note is None or not note.run_id):
        raise InputError(
            tr("run_id: the folder {given!r} holds no tracked run; give the id of a run, or the folder of one", given=given)
        )
    if note is not None and is_pending(note.run_id):
        with _offline(folder, note.run_id) as trained:
            yield trained
        return
    yield _in_store(note.run_id if note else given)


def _in_store(run_id: str) -> TrainedRun:
    from fashion_ml.tracking.queries import download
    from fashion_ml.tracking.run import attach
    from fashion_ml.tracking.run_ids import find_meant
    from fashion_ml.tracking.store import open_tracking

    client = open_tracking(make=False)
    found = find_meant(client, run_id)
    own = found.info.run_id

    def files(folder: str) -> list[str]:
        return [Path(item.path).name for item in client.list_artifacts(own, folder)]

    return TrainedRun(
        attach(client, found),
        found.data.tags.get("kind", ""),
        lambda artifact, place: download(client, own, artifact, place),
        files,
    )


@contextmanager
def _offline(folder: Path, run_id: str) -> Iterator[TrainedRun]:
    from fashion_ml.tracking.queries import kept_run

    with kept_run(folder, run_id) as run:
        kind = run.client.get_run(run_id).data.tags.get("kind", "")
        weights = {"lora", "stargan"}  # in the store a folder, here beside the config

        def local(artifact: str) -> Path:
            first, _, rest = artifact.partition("/")
            return folder / rest if first in weights else folder / artifact

        def bring(artifact: str, place: Path) -> Path:
            path = local(artifact)
            if not path.exists():
                raise InputError(
                    tr(
                        "run_id: {folder!r} has no {name}; choose the folder of a finished training run",
                        folder=str(folder),
                        name=path.name,
                    )
                )
            return path

        yield TrainedRun(run, kind, bring, lambda name: sorted(path.name for path in local(name).glob("*")))


def config_of(trained: TrainedRun, place: Path) -> dict[str, Any]:
    """The resolved settings that a training has logged."""
    return read_mapping(trained.bring("config.yaml", place), "run_id", tr("a run whose config.yaml is whole"))
