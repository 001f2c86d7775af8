"""Sending later what runs' folders still hold, all of it where a run was offline, and bringing killed runs to their end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fashion_ml.errors import InputError
from fashion_ml.runs.ending import Ended, come_to_end, folders_in_store, lacks_end, place_of
from fashion_ml.runs.run_folder import NOTE, has_note, read_run_folder
from fashion_ml.runtime.language import tr
from fashion_ml.tracking.spool import LOG
from fashion_ml.tracking.spooled_client import FOLDER, is_written, waiting
from fashion_ml.tracking.store import find_run, open_tracking, shown_uri, store_is_there, store_uri


@dataclass(frozen=True)
class NotSynced:
    """A folder of which nothing was sent."""

    folder: Path
    why: InputError


@dataclass(frozen=True)
class Found:
    """Run folders that hold something to be sent."""

    folders: list[Path]
    problems: list[str] = field(default_factory=list)
    """Folders that cannot be read, so that nobody knows what waits in them."""


def unsent(below: Path) -> Found:
    """The run folders below a folder that nobody writes to now and that hold something unsent, or a run that did not come to its end."""
    found, problems = list[Path](), list[str]()
    for place, _, files in os.walk(below, onerror=lambda error: problems.append(_closed(error))):
        if (here := Path(place)).name == FOLDER and LOG in files:
            found.append(here.parent)
    noted = [folder for folder in sorted(found) if has_note(folder)]
    return Found([folder for folder in noted if not is_written(folder) and (waiting(folder) or _unfinished(folder))], problems)


def _closed(error: OSError) -> str:
    return tr(
        "RUN_DIR: {folder!r} cannot be read ({strerror}), so what waits there is not sent; make it readable for this user",
        folder=str(error.filename),
        strerror=error.strerror,
    )


def everywhere() -> Found:
    """What `unsent` finds below outputs/, and the folders of runs that the store knows as begun and not ended, wherever they are."""
    found = unsent(Path("outputs")) if Path("outputs").is_dir() else Found([])
    kept = [note.path for _, note in folders_in_store() if not is_written(note.path)] if store_is_there() else []
    return Found(list(dict.fromkeys(path.absolute() for path in found.folders + kept)), found.problems)


def folders_of(given: Path) -> Found:
    """The folder itself where it is a run's, else those below it that hold something unsent. InputError where there is no run."""
    if has_note(given):
        return Found([given])
    if not given.exists():
        raise InputError(
            tr("RUN_DIR: {given!r} does not exist; give the folder of a run, or one that holds such folders", given=str(given))
        )
    closed = list[str]()
    walked = os.walk(given, onerror=lambda error: closed.append(_closed(error)))
    if given.is_file() or not any(NOTE in (*folders, *files) for _, folders, files in walked):
        raise InputError(closed or tr("RUN_DIR: {given!r} is no run's folder; give one that holds run.json", given=str(given)))
    return unsent(given)


def _unfinished(folder: Path) -> bool:
    try:
        note = read_run_folder(folder)
    except InputError:
        return True  # damaged, which is said when it is to be sent
    if note is None or place_of(note) != shown_uri(store_uri()):
        return False
    if note.finished:
        return lacks_end(note)
    try:
        info = find_run(open_tracking(), note.run_id).info
    except InputError:
        return False  # the store has no such run any more, or is away: nothing here waits for it
    return (info.status, info.lifecycle_stage) == ("RUNNING", "active")


def sync_folders(folders: Sequence[Path], seconds: float) -> Iterator[Ended | NotSynced]:
    """Send the rest of each folder to the store that its run is in, and end runs whose process is gone; an offline run is made there first.

    A folder that is no run's, that is damaged, whose run is in another store, or whose training still writes, is given as NotSynced, and the
    others go on. InputError when the store cannot be used.
    """
    open_tracking()
    for folder in folders:
        try:
            yield _synced(folder, seconds)
        except InputError as error:
            yield NotSynced(folder, error)


def _synced(folder: Path, seconds: float) -> Ended:
    note = read_run_folder(folder, "RUN_DIR", tr("bring back a copy of it; what the run has logged is in spool/ beside it"))
    if note is None:
        raise InputError(tr("RUN_DIR: {folder!r} is no run's folder; give one that holds run.json", folder=str(folder)))
    return come_to_end(note, seconds)
