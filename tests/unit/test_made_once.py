"""Copies of what was made once are what would be made."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from fashion_ml.embedded.collection import write_collection
from fashion_ml.tracking.store_file import make_whole
from tests import made_once


def test_copied_tables_and_pictures_are_those_that_are_made(tmp_path: Path, empty_store: Path, collection: Path):
    found = []
    for number in range(2):
        made_once.made_once(Path("test_store_file.py") if number else None)
        make_whole(tmp_path / f"{number}.db")
        folder = write_collection(tmp_path / str(number))
        with closing(sqlite3.connect(tmp_path / f"{number}.db")) as store:
            tables = [
                (
                    kind,
                    name,
                    sorted(part.strip(" ()") for part in re.split(r"[\n,]", sql or "")),
                )  # constraints come in any order
                for kind, name, sql in store.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2")
            ]
            rows = store.execute("SELECT * FROM alembic_version").fetchall()
        files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        found.append((tables, rows, files))
    assert found[0] == found[1]
    assert len(found[0][2]) > 240  # 120 pictures and captions, and what tells of them
