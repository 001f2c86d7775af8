"""Reading files that somebody gives: regular files alone, for a named pipe is waited for and a device has no end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from fashion_ml.runtime.language import tr

PICTURE_BYTES = 512 << 20
"""The most bytes of a picture's file: 100 million pixels, the most that are decoded, have 300 million without compression."""
_AT_MOST = 2 << 30
"""Bytes of a file that is read as a whole; what may be larger is read in parts."""
_OF_SHELLS = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
"""Pipes that a shell has filled, as with `--config <(sed …)`."""


def opened(path: Path) -> BinaryIO:
    """A regular file, open to be read as bytes. OSError for what is none, at once."""
    return os.fdopen(_regular(path)[0], "rb")


def check_regular(path: Path) -> None:
    """OSError where `opened` gives one: before a file is handed to a library that opens it itself."""
    os.close(_regular(path)[0])


def files_below(folder: Path) -> list[Path]:
    """What a folder and those inside hold and is no folder, sorted. OSError naming the first of them that cannot be read, for to pass over a
    folder is to say that it is empty."""

    def raised(error: OSError) -> None:
        raise error

    return sorted(Path(place, name) for place, _, names in os.walk(folder, onerror=raised) for name in names)


def read_whole(path: Path, most: int = _AT_MOST) -> bytes:
    """The bytes of a regular file. OSError for what is none, and for one of more than `most` bytes."""
    return read_noted(path, most)[0]


def read_noted(path: Path, most: int = _AT_MOST) -> tuple[bytes, os.stat_result]:
    """As `read_whole`, with the state of the file that was read."""
    number, state = _regular(path)
    try:
        parts, size, wanted = list[bytes](), 0, state.st_size + 1
        while state.st_size <= most and size <= most and (part := os.read(number, max(wanted - size, 1 << 16))):
            parts.append(part)
            size += len(part)
    finally:
        os.close(number)
    if max(state.st_size, size) > most:
        raise OSError(errno.EFBIG, tr("Has more than the {most:,} bytes that are read", most=most), str(path))
    return parts[0] if len(parts) == 1 else b"".join(parts), state


def _regular(path: Path) -> tuple[int, os.stat_result]:
    """A descriptor of a regular file, and its state."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        state = os.fstat(number)
        if stat.S_ISREG(state.st_mode):
            return number, state
        if stat.S_ISDIR(state.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISFIFO(state.st_mode) or not str(path).startswith(_OF_SHELLS):
            raise OSError(errno.EINVAL, tr("Is a pipe or a device, and no file"), str(path))
        os.set_blocking(number, True)
    except BaseException:
        os.close(number)
        raise
    return number, state


def read_utf8(path: Path, encoding: str = "utf-8-sig", most: int = 64 << 20) -> str:
    """The text of a regular file, its lines ended by line feeds. OSError as of `read_whole`, UnicodeDecodeError where it is no such text."""
    return read_whole(path, most).decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
