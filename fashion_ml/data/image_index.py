"""Size and hashes of image files that were looked at before: decoding 100,000 of them at every start takes minutes.

A file is known by its path, bytes, and the times of its last change (mtime and ctime, as git's index does it); an edit moves ctime, whatever
a tool does to mtime. What changed within two seconds of being looked at is not noted, for clocks of file systems are coarse.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import parsed

_VERSION, _COARSE_SECONDS = 3, 2.0


class Known(NamedTuple):
    """What an image file is."""

    size: tuple[int, int]
    """Width and height after the EXIF turn, pixels."""
    sha256: str
    """Of the file's bytes."""
    hashes: tuple[int, int]
    """Difference hashes, 64 bits, of the picture and of its mirror image."""
    several: bool = False
    """Whether the file holds more pictures: an animation, or pages."""


class KnownImages:
    """The note `images.json` in a folder; a damaged one, or one of another version, counts as empty."""

    def __init__(self, folder: Path):
        self._path = folder / "images.json"
        self._images, self._new = self._read(), dict[str, list[object]]()

    def get(self, path: Path) -> Known | None:
        """What is known of a file as it is now, or None."""
        found = self._images.get(str(path.absolute()))
        try:
            if found is None or found[0] != _state(path.stat()):
                return None
            _, width, height, sha256, plain, mirrored, several = found
            return Known((int(width), int(height)), str(sha256), (int(plain, 16), int(mirrored, 16)), bool(several))  # type: ignore
        except (OSError, ValueError, TypeError, LookupError):
            return None

    def put(self, path: Path, state: os.stat_result, found: Known) -> None:
        """Note what a file was found to be; `state` is that of the file whose bytes were read."""
        if time.time() - max(state.st_mtime, state.st_ctime) > _COARSE_SECONDS:
            self._new[str(path.absolute())] = [
                _state(state),
                *found.size,
                found.sha256,
                *(f"{one:x}" for one in found.hashes),
                found.several,
            ]

    def save(self) -> None:
        """Add what is new to the note, beside what other trainings have noted since; nothing where the folder cannot be written."""
        if not self._new:
            return
        with suppress(OSError, InputError):  # it saves time, no more: a cache that is only read is one too
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._path.with_name(".images.json.lock"), timeout=60):
                self._images = self._read() | self._new
                write_text(self._path, json.dumps({"version": _VERSION, "images": self._images}))
        self._new = {}

    def _read(self) -> dict[str, list[object]]:
        try:
            note = parsed(read_whole(self._path))
            return dict(note["images"]) if note["version"] == _VERSION else {}
        except (OSError, ValueError, LookupError, TypeError):
            return {}  # then all are looked at


def _state(found: os.stat_result) -> str:
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
