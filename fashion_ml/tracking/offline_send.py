"""The first step of sending an offline run: its run in a store, made once whatever dies in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr
from fashion_ml.tracking.offline_client import root_of
from fashion_ml.tracking.sender import made_run, run_of_key
from fashion_ml.tracking.spool import Operation, locked, note_position, read_position
from fashion_ml.tracking.spooled_client import FOLDER


def first_operation(folder: Path) -> Operation:
    """The making of the run of an offline folder. InputError without it."""
    root = root_of(folder)
    if root is None:
        raise InputError(
            tr(
                "RUN_DIR: {folder!r} does not begin with its run; it is damaged, or not all of it was copied",
                folder=str(folder / FOLDER),
            )
        )
    return root


def make_in_store(folder: Path, client: Any, experiment: str) -> str:
    """The store's id of the run of an offline folder: of the one there that has its key, else of a new one in the experiment of that id.

    It is noted beside the spool; a crash before that note finds the run by its key. InputError while the training still writes.
    """
    root = first_operation(folder)
    pending, place = str(root["run"]), folder / FOLDER
    lock = locked(place)
    try:
        sent, names = read_position(place)
        if pending not in names:
            found = run_of_key(client, pending)
            names[pending] = found.info.run_id if found else made_run(client, {**root, "experiment": experiment}, {})
            note_position(place, sent, names)
        return names[pending]
    finally:
        lock.release()
