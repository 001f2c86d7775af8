"""What tests write needs to outlive a killed process, not a machine that loses its power: nothing waits for the disk."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from typing import Any

_seen: list[bool] = []


def wait_for_no_disk() -> None:
    """From now on in this process and in those that are forked from it: files, and databases as soon as SQLAlchemy is imported."""
    os.fsync = _nothing  # type: ignore[assignment]
    if "sqlalchemy.event" in sys.modules and "sqlalchemy.engine" in sys.modules and not _seen:
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        event.listen(Engine, "connect", _connected)
        _seen.append(True)


def _nothing(descriptor: int) -> None:
    os.fstat(descriptor)  # of a file that is not open this fails, as the real one does


def _connected(connection: Any, record: Any) -> None:
    if type(connection).__module__ == "sqlite3":
        with contextlib.suppress(sqlite3.DatabaseError):  # what is no database is told by who uses it
            connection.execute("PRAGMA synchronous = OFF")
