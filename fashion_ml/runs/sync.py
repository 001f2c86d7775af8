"""Sending later what a run's spool still holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fashion_ml.errors import InputError
from fashion_ml.runs.run_folder import read_run_folder
from fashion_ml.tracking.queries import close_if_dead
from fashion_ml.tracking.run import attach
from fashion_ml.tracking.spooled_client import FOLDER, is_written, send_rest, waiting
from fashion_ml.tracking.store import find_run, open_tracking, shown_uri, store_uri


@dataclass(frozen=True)
class Synced:
    """What became of one run's folder."""

    folder: Path
    run_id: str
    sent: bool
    """Whether everything has reached the store."""
    ended: bool
    """Whether the run, whose process had been killed, was ended now: FINISHED where it had done everything, else KILLED."""


def unsent(below: Path) -> list[Path]:
    """The run folders below a folder that nobody writes to now and that hold something unsent, or a run that did not come to its end."""
    found = [path.parents[1] for path in sorted(below.rglob(f"{FOLDER}/operations.jsonl"))]
    return [folder for folder in found if not is_written(folder) and (waiting(folder) or _unfinished(folder))]


def _unfinished(folder: Path) -> bool:
    note = read_run_folder(folder)
    if note is None or note.finished or note.tracking_uri != shown_uri(store_uri()):
        return False
    try:
        info = find_run(open_tracking(), note.run_id).info
    except InputError:
        return False  # the store has no such run any more, or is away: nothing here waits for it
    return (info.status, info.lifecycle_stage) == ("RUNNING", "active")


def sync_folders(folders: Sequence[Path], seconds: float) -> Iterator[Synced]:
    """Send the rest of each folder to the store that its run is in, and end runs whose process is gone.

    InputError for a folder that is no run's, for one whose run is in another store, and while its training still writes.
    """
    store = shown_uri(store_uri())
    notes = []
    for folder in folders:
        note = read_run_folder(folder)
        if note is None:
            raise InputError(f"RUN_DIR: {str(folder)!r} is no run's folder; give one that holds run.json")
        if not note.run_id:
            raise InputError(f"RUN_DIR: {str(folder)!r} was trained without tracking; there is nothing to send")
        if note.tracking_uri != store:
            raise InputError(f"RUN_DIR: the run of {str(folder)!r} is in {note.tracking_uri}; set MLFLOW_TRACKING_URI to that")
        notes.append(note)
    client = open_tracking()
    for note in notes:
        sent = send_rest(note.path, client, f"The tracking store {store}", seconds)
        ended = sent and close_if_dead(attach(client, find_run(client, note.run_id)), finished=note.finished)
        yield Synced(note.path, note.run_id, sent, ended)
