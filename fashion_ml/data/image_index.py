"""Size and hashes of image files that were looked at before: decoding 100,000 of them at every start takes minutes.

A file is known by its path, bytes, and the times of its last change (mtime and ctime, as git's index does it); an edit moves ctime, whatever
a tool does to mtime. What changed within two seconds of being looked at is not noted, for clocks of file systems are coarse.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from fashion_ml.data.near_duplicates import difference_hashes
from fashion_ml.data.pictures import open_picture
from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.input_file import PICTURE_BYTES, read_noted, read_whole
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


def looked_at(path: Path) -> tuple[Known, os.stat_result]:
    """What an image file is, and the state of the file that was read. OSError where it cannot be, PictureError for what is no picture."""
    content, state = read_noted(path, PICTURE_BYTES)
    picture, several = open_picture(io.BytesIO(content))
    return Known(picture.size, hashlib.sha256(content).hexdigest(), difference_hashes(picture), several), state


class KnownImages:
    """The note `images.json` in a folder, without one what is known in this process; a damaged one, or one of another version, counts as
    empty."""

    def __init__(self, folder: Path | None = None, coming: Callable[[], Mapping[str, list[object]]] | None = None):
        """`coming` waits for what others found, and gives the `noted` of files by their absolute paths; asked when a file is asked for."""
        self._path = folder / "images.json" if folder else None
        self._images, self._new, self._coming = self._read(), dict[str, list[object]](), coming

    def get(self, path: Path) -> Known | None:
        """What is known of a file as it is now, or None."""
        if self._coming is not None:
            coming, self._coming = self._coming, None
            self._new.update(coming())
            self._images.update(self._new)
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
        note = noted(state, found)
        if note is not None:
            self._new[str(path.absolute())] = note

    def save(self) -> None:
        """Add what is new to the note, beside what other trainings have noted since; nothing where the folder cannot be written."""
        if not self._new or self._path is None:
            return
        with suppress(OSError, InputError):  # it saves time, no more: a cache that is only read is one too
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._path.with_name(".images.json.lock"), timeout=60):
                self._images = self._read() | self._new
                write_text(self._path, json.dumps({"version": _VERSION, "images": self._images}))
        self._new = {}

    def _read(self) -> dict[str, list[object]]:
        if self._path is None:
            return {}
        try:
            note = parsed(read_whole(self._path))
            return dict(note["images"]) if note["version"] == _VERSION else {}
        except (OSError, ValueError, LookupError, TypeError):
            return {}  # then all are looked at


def noted(state: os.stat_result, found: Known) -> list[object] | None:
    """A file as the note has it, for JSON; None where it has changed so lately that another change could not be told."""
    if time.time() - max(state.st_mtime, state.st_ctime) <= _COARSE_SECONDS:
        return None
    return [_state(state), *found.size, found.sha256, *(f"{one:x}" for one in found.hashes), found.several]


def _state(found: os.stat_result) -> str:
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
