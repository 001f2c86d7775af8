"""Sending later what a run's spool still holds, all of it where the run was offline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.runs.run_folder import NOTE, RunFolder, read_run_folder, write_run_folder
from fashion_ml.tracking.environment import experiment_for
from fashion_ml.tracking.offline_client import end_what_is_left, is_pending, operations, root_of
from fashion_ml.tracking.offline_send import first_operation, make_in_store
from fashion_ml.tracking.queries import close_if_dead
from fashion_ml.tracking.run import attach
from fashion_ml.tracking.spooled_client import FOLDER, is_written, send_rest, waiting
from fashion_ml.tracking.store import find_run, open_tracking, shown_uri, store_uri
from fashion_ml.tracking.store_checks import asked, with_whole_path


@dataclass(frozen=True)
class Synced:
    """What became of one run's folder."""

    folder: Path
    run_id: str
    sent: bool
    """Whether everything has reached the store."""
    ended: bool
    """Whether the run, whose process had been killed, was ended now: FINISHED where it had done everything, else KILLED."""


@dataclass(frozen=True)
class NotSynced:
    """A folder of which nothing was sent."""

    folder: Path
    why: InputError


def unsent(below: Path) -> list[Path]:
    """The run folders below a folder that nobody writes to now and that hold something unsent, or a run that did not come to its end."""
    found = [path.parents[1] for path in sorted(below.rglob(f"{FOLDER}/operations.jsonl"))]
    noted = [folder for folder in found if (folder / NOTE).is_file()]
    return [folder for folder in noted if not is_written(folder) and (waiting(folder) or _unfinished(folder))]


def folders_of(given: Path) -> list[Path]:
    """The folder itself where it is a run's, else those below it that hold something unsent. InputError where there is no run."""
    if (given / NOTE).is_file():
        return [given]
    if not given.exists():
        raise InputError(f"RUN_DIR: {str(given)!r} does not exist; give the folder of a run, or one that holds such folders")
    if given.is_file() or not any(given.rglob(NOTE)):
        raise InputError(f"RUN_DIR: {str(given)!r} is no run's folder; give one that holds run.json")
    return unsent(given)


def _unfinished(folder: Path) -> bool:
    try:
        note = read_run_folder(folder)
    except InputError:
        return True  # damaged, which is said when it is to be sent
    if note is None or note.finished or _place(note) != shown_uri(store_uri()):
        return False
    try:
        info = find_run(open_tracking(), note.run_id).info
    except InputError:
        return False  # the store has no such run any more, or is away: nothing here waits for it
    return (info.status, info.lifecycle_stage) == ("RUNNING", "active")


def _place(note: RunFolder) -> str:
    """The store of a run; a relative path, as earlier versions noted it, is seen from the working folder."""
    return with_whole_path(note.tracking_uri, Path.cwd())


def sync_folders(folders: Sequence[Path], seconds: float) -> Iterator[Synced | NotSynced]:
    """Send the rest of each folder to the store that its run is in, and end runs whose process is gone; an offline run is made there first.

    A folder that is no run's, that is damaged, whose run is in another store, or whose training still writes, is given as NotSynced, and the
    others go on. InputError when the store cannot be used.
    """
    client = open_tracking()
    for folder in folders:
        try:
            yield _sync(folder, client, seconds)
        except InputError as error:
            yield NotSynced(folder, error)


def _sync(folder: Path, client: Any, seconds: float) -> Synced:
    store = shown_uri(store_uri())
    note = _note_to_send(folder, store)
    ended = root_of(note.path) is not None and end_what_is_left(note.path, finished=note.finished)
    here = into_store(note)
    sent = send_rest(here.path, client, f"The tracking store {store}", seconds)
    ended |= sent and close_if_dead(attach(client, find_run(client, here.run_id)), finished=here.finished)
    return Synced(here.path, here.run_id, sent, ended)


def _note_to_send(folder: Path, store: str) -> RunFolder:
    note = read_run_folder(folder, "RUN_DIR", "bring back a copy of it; what the run has logged is in spool/ beside it")
    if note is None:
        raise InputError(f"RUN_DIR: {str(folder)!r} is no run's folder; give one that holds run.json")
    if not note.run_id:
        raise InputError(f"RUN_DIR: {str(folder)!r} was trained without tracking; there is nothing to send")
    if note.tracking_uri and _place(note) != store:
        raise InputError(f"RUN_DIR: the run of {str(folder)!r} is in {note.tracking_uri}; set MLFLOW_TRACKING_URI to that")
    for _ in operations(folder):  # a damaged line is said before anything is sent
        pass
    if is_pending(note.run_id):
        first_operation(folder)
    return note


def into_store(note: RunFolder) -> RunFolder:
    """The note of a run that is in the store: as it is, or, where the run was offline so far, with the id that it has there from now on.

    The store is noted before the run is made, so that a sync that was cut off does not go on in another one.
    """
    if not is_pending(note.run_id):
        return note
    store = shown_uri(store_uri())
    _note_to_send(note.path, store)
    client = open_tracking()
    experiment = experiment_for(client, first_operation(note.path))
    write_run_folder(replace(note, tracking_uri=store))
    with asked(store_uri()):
        run_id = make_in_store(note.path, client, experiment)
    known = replace(note, tracking_uri=store, run_id=run_id)
    write_run_folder(known)
    return known
