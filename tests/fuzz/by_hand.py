"""What may lie where a command wants a file, and is none that can be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

Place = Callable[[Path], None]
"""Puts what is wrong at a path."""


def folder(path: Path) -> None:
    """A folder, with something in it."""
    path.mkdir(parents=True)
    (path / "inside.txt").write_text("x", encoding="utf-8")


def pipe(path: Path) -> None:
    """A named pipe that nobody writes to: who opens it waits for ever."""
    os.mkfifo(path)


def loop(path: Path) -> None:
    """A link to itself."""
    path.symlink_to(path.name)


def endless(path: Path) -> None:
    """A link to a device that never ends."""
    path.symlink_to("/dev/zero")


def socket_file(path: Path) -> None:
    """A socket's file."""
    import socket

    before = Path.cwd()
    os.chdir(path.parent)  # a socket's path has at most 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(before)


def nothing(path: Path) -> None:
    """An empty file."""
    path.write_bytes(b"")


def zeros(path: Path) -> None:
    """A file of zeros, without a line feed."""
    path.write_bytes(bytes(5000))


def sparse(path: Path) -> None:
    """60 GB that take no room."""
    with path.open("wb") as file:
        file.truncate(60 << 30)


def wide(path: Path) -> None:
    """Text in UTF-16."""
    path.write_bytes("network:\n  rank: 2\n".encode("utf-16"))


ODD: dict[str, Place] = {
    "folder": folder,
    "pipe": pipe,
    "loop": loop,
    "endless": endless,
    "socket": socket_file,
    "empty": nothing,
    "zeros": zeros,
    "sparse": sparse,
    "utf-16": wide,
}
"""What may lie where a file is wanted."""
