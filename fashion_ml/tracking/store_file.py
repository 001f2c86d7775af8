"""The file of an sqlite store: its tables are made, and brought up to date, as a whole or not at all, whenever the process is killed.

MLflow makes a new store's tables in place by some seventy migrations, each of which sqlite keeps at once: what is cut off in between is a store
that no migration takes any more. Here they work on a copy, which sqlite then writes back in one transaction.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr
from fashion_ml.tracking.mlflow_private import BOOKKEEPING_TABLES, has_all_tables, make_tables

_ATTEMPTS = 3


def make_whole(file: Path) -> None:
    """Make the tables of a store that has none, or was cut off while it got them, and those that an older MLflow did not have yet.

    One process at a time. Errors as of sqlite and MLflow, the file then as it was; one that is no database is left to MLflow to refuse.
    """
    try:
        _roll_back(file)
        nothing = _holds_nothing(file)
        if not nothing and has_all_tables(file):
            return
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        return  # no database
    if not nothing:
        say(tr("{file} is of an older MLflow: it gets the tables of this one", file=file))
    for _ in range(_ATTEMPTS):
        if _written(file, fresh=nothing):
            return
    raise sqlite3.OperationalError("others write to it while it is brought up to this version of MLflow; end them")


def _written(file: Path, *, fresh: bool) -> bool:
    """Whether the tables, made in a copy, or from nothing, stand in the file; not where another process wrote to it in the meantime."""
    copy = file.with_name(f"{file.name}.new")
    for path in (copy, *(copy.with_name(f"{copy.name}-{end}") for end in ("journal", "wal", "shm"))):
        path.unlink(missing_ok=True)  # of one that was killed
    try:
        with closing(sqlite3.connect(file)) as store:
            before = _version(store)
            if not fresh:
                with closing(sqlite3.connect(copy)) as target:
                    store.backup(target)
            make_tables(copy)
            if _version(store) != before:
                return False
            with closing(sqlite3.connect(copy)) as made:
                made.backup(store)
    finally:
        copy.unlink(missing_ok=True)
    return True


def _roll_back(file: Path) -> None:
    """Let sqlite undo what a process was writing when it was killed, which a connection that only reads cannot."""
    if file.is_file():
        with closing(sqlite3.connect(file)) as store:
            store.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()


def _version(store: sqlite3.Connection) -> int:
    """A number that changes when another connection writes to the database."""
    return int(store.execute("PRAGMA data_version").fetchone()[0])


def _holds_nothing(file: Path) -> bool:
    """Whether there is no store yet, or one that was cut off before it held anything; a database of something else is neither."""
    if not file.is_file():
        return True
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as store:
        tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        ours = not tables or bool(tables & {"runs", "experiments"})
        kept = tables - BOOKKEEPING_TABLES
        return ours and not any(store.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone() for name in kept)
