"""`set_aside.jsonl` beside a spool: the records that are not performed, each with the reason. A spool's file may come from anywhere."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.own_file import open_own

FILE = "set_aside.jsonl"
_MOST_BYTES, _SAID = 64 << 20, 20
"""Of the file, and how many records are told of by one process: a file may hold millions that are none."""


class Aside:
    """Keeps each record once, also where it is sent again after a crash."""

    def __init__(self, folder: Path, say: Callable[[str], None]):
        self.path, self._say = folder / FILE, say
        self._known: set[int] | None = None
        self._size, self._told, self._file = 0, 0, -1

    def keep(self, record: str, why: str, said: str) -> None:
        """Keep a record with the reason, and say so. Beyond 64 MiB no more are kept, which is said."""
        entry = (json.dumps({"why": why, "record": record}) + "\n").encode()
        known = self._opened()
        if hash(entry) in known:
            return
        known.add(hash(entry))
        whole = self._file >= 0 and self._size + len(entry) <= _MOST_BYTES
        if whole:
            with suppress(OSError):  # a full disk: the records stay in the spool's own file
                self._size += os.write(self._file, entry)
        self._told += 1
        if self._told <= _SAID:
            self._say(said if whole else tr("{said} (not kept: {path} cannot take more)", said=said, path=self.path))
        elif self._told == _SAID + 1:
            self._say(tr("More records are left out; see {path}", path=self.path))

    def sync(self) -> None:
        """Bring what was kept to the disk, and close: before the position behind the records is noted."""
        if self._file >= 0:
            with suppress(OSError):
                os.fsync(self._file)
            os.close(self._file)
        self._file = -1

    def _opened(self) -> set[int]:
        """The records that are kept already, and the file open."""
        if self._file < 0:
            with suppress(OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open_own(self.path, os.O_APPEND)
                self._size = os.fstat(self._file).st_size
        if self._known is None:
            self._known = set()
            with suppress(OSError):
                before = read_whole(self.path, _MOST_BYTES)
                self._known = {hash(line) for line in before.splitlines(keepends=True)}
                if before and not before.endswith(b"\n"):  # torn by a crash
                    self._size += os.write(self._file, b"\n")
        return self._known
