"""`refused.jsonl` beside a spool: what the store answered to with an error that does not go away, or could not be read here, each with the
reason, for a later sync."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.input_file import opened
from fashion_ml.runtime.json_file import parsed_mapping
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.own_file import open_own
from fashion_ml.tracking.operation_shape import is_shallow

FILE = "refused.jsonl"
_LONGEST, _SAID = 256 << 20, 20
"""Bytes of a record, and how many are told of by one process: a store may refuse all of thousands."""


@dataclass(frozen=True)
class Entry:
    """A refused operation."""

    operation: dict[str, Any]
    why: str
    divided: bool = False
    """Whether its metrics are known to be refused one by one; else some may be taken."""
    unreadable: bool = False
    """Whether it is a file here that cannot be read, which is no fault of the store."""

    def line(self) -> str:
        """Of the file."""
        return json.dumps({"operation": self.operation, "why": self.why} | ({"divided": True} if self.divided else {})) + "\n"

    def mark(self) -> int:
        """The same for the same operation."""
        return hash(json.dumps(self.operation))


class Refused:
    """Keeps each operation once, also where it is sent again after a crash; appended, so that a record costs what it holds."""

    def __init__(self, folder: Path, say: Callable[[str], None]):
        self.path, self._say = folder / FILE, say
        self._file, self._size, self._told = -1, 0, 0
        self._known = set[int]()

    def keep(self, entry: Entry) -> None:
        """Keep an operation with the reason, and say so. OSError where the disk does not take it: nothing of it is kept then."""
        if self._file < 0:
            self._open()
        if (mark := entry.mark()) in self._known:
            return
        line, done = entry.line().encode(), 0
        try:
            while done < len(line):
                done += os.write(self._file, line[done:])
        except BaseException:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            self.sync()  # opened again by the next one, which ends a line that could not be cut
            raise
        self._size += len(line)
        self._known.add(mark)
        self._told += 1
        if self._told <= _SAID:
            self._say(self._told_of(entry))
        elif self._told == _SAID + 1:
            self._say(tr("The tracking store refused more; see {path}", path=self.path))

    def _told_of(self, entry: Entry) -> str:
        if entry.unreadable:
            return tr(
                "{reason}, which is no fault of the tracking store; that it is to be sent is kept in {note}, and fashion-ml sync "
                "tries it again",
                reason=entry.why,
                note=self.path,
            )
        return tr(
            "The tracking store refused {do} of run {run} ({reason}); it is kept in {note} and fashion-ml sync tries it again",
            do=entry.operation["do"],
            run=entry.operation["run"],
            reason=entry.why,
            note=self.path,
        )

    def sync(self) -> None:
        """Bring what was kept to the disk, and close: before the position behind it is noted."""
        if self._file >= 0:
            try:
                os.fsync(self._file)
            finally:
                os.close(self._file)
                self._file = -1

    def entries(self) -> list[Entry]:
        """What is kept; a line that a damaged disk has broken is left out, and a file that is none of ours moved aside."""
        if not os.path.lexists(self.path):
            return []
        try:
            return list(self._read())
        except OSError as error:  # a link, a pipe, a folder
            aside = self.path.replace(self.path.with_name(f"{self.path.name}.unreadable"))
            self._say(tr("{path} cannot be read ({why}) and is left out", path=aside, why=error.strerror or error))
            return []

    def replace(self, entries: Iterable[Entry]) -> None:
        """Keep these alone; without any the file goes."""
        self.sync()
        text = "".join(entry.line() for entry in entries)
        if text:
            write_text(self.path, text, private=True)
        else:
            self.path.unlink(missing_ok=True)

    def _open(self) -> None:
        """The file open at its end, behind a whole line, and what it holds known."""
        self._known = {entry.mark() for entry in self.entries()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open_own(self.path, os.O_APPEND)
        self._size = os.fstat(self._file).st_size
        if self._size and os.pread(self._file, 1, self._size - 1) != b"\n":  # torn by a crash
            self._size += os.write(self._file, b"\n")

    def _read(self) -> Iterator[Entry]:
        if self.path.is_symlink():
            raise OSError(tr("{name} is a link, a pipe or a device", name=self.path.name))
        with opened(self.path) as file:
            while line := file.readline(_LONGEST):
                whole = len(line) < _LONGEST or line.endswith(b"\n")
                if not whole:  # no record of ours, and what follows may be as long as the disk
                    raise OSError(errno.EFBIG, tr("Has more than the {most:,} bytes that are read", most=_LONGEST))
                with suppress(ValueError):
                    found = parsed_mapping(line)
                    operation = found.get("operation")  # looked at when it is sent, which sets aside what is none
                    if isinstance(operation, dict) and is_shallow(found):
                        yield Entry(operation, str(found.get("why", "")), found.get("divided") is True)
