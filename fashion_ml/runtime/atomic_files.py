"""Files that are either the old one or the new one, never half of one."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.process_id import host

_TEMPORARY = re.compile(r"\.(?P<host>[0-9a-f]{6})-(?P<pid>\d+)-[0-9a-f]+\.tmp$")

_UMASK = os.umask(0o077)
"""What the process leaves out of a new file's permissions; asking is setting, so it is asked once."""
os.umask(_UMASK)

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


@contextmanager
def atomic_path(path: Path, field: str = "output.output_dir", *, sync: bool = True, private: bool = False) -> Iterator[Path]:
    """An empty file of a temporary name beside `path` to write to, which nobody else may read; synced, and renamed onto `path` with the mode
    that new files have here, when the block ends without an error.

    A `private` file stays its owner's alone. Without `sync` a machine that stops may leave an empty file, which is for what can be made again.

    On an error the temporary file is removed and what was at `path` is untouched. InputError, naming the setting `field`, when
    the disk is full, the folder cannot be written, or `path` is a device or a pipe.
    """
    if is_device(path):
        raise InputError(
            tr(
                "{field}: {path!r} is a device or a pipe, whose place a file would take; give a file",
                field=field,
                path=str(path),
            )
        )
    temporary = path.with_name(f".{path.name}.{_here()}-{os.getpid()}-{threading.get_ident():x}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(
            os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | _NO_LINK, 0o600)
        )  # nobody else reads what is not whole
        yield temporary
        if not private:
            temporary.chmod(0o666 & ~_UMASK)
        if sync:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
        if sync:
            _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        problem = _storage_problem(error, path, field)
        if problem:
            raise InputError(problem) from error
        raise


def is_device(path: Path) -> bool:
    """Whether a file that is renamed onto `path` would take the place of a device, a pipe or a socket, or of a name for one (`/dev/stdout`)."""
    try:
        kinds = [path.lstat().st_mode, path.stat().st_mode]
    except OSError:  # nothing is there, or a link to nothing
        return False
    named = stat.S_ISLNK(kinds[0]) and path.absolute().parent == Path("/dev")
    return named or not (stat.S_ISREG(kinds[1]) or stat.S_ISDIR(kinds[1]))


def remove_leftovers(*folders: Path | None) -> int:
    """Remove the temporary files below some folders whose writers, processes of this machine, are dead; returns how many."""
    import psutil

    removed = 0
    for folder in folders:
        for path in folder.rglob(".*.tmp") if folder else ():
            named = _TEMPORARY.search(path.name)
            if named and named["host"] == _here() and not psutil.pid_exists(int(named["pid"])):
                with suppress(OSError):
                    path.unlink()
                    removed += 1
    return removed


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Write a UTF-8 text file atomically; one that is `private` is its owner's alone. InputError as `atomic_path`."""
    with atomic_path(path, private=private) as temporary:
        temporary.write_text(text, encoding="utf-8")


@lru_cache(maxsize=1)
def _here() -> str:
    """Short for this machine, whose process ids other ones of the same folder do not share."""
    return hashlib.sha256(host().encode()).hexdigest()[:6]


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some file systems cannot sync a folder; the file itself is synced
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _storage_problem(error: BaseException, path: Path, field: str) -> str | None:
    """One line for a full disk or a folder without permission."""
    text = str(error)
    told = re.search(r"\(os error (\d+)\)", text)  # safetensors' errors carry the number in their text only
    number = getattr(error, "errno", None) or (int(told[1]) if told else None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return tr(
            "{field}: the disk of {parent} is full, {name} was not written; free space or choose another folder",
            field=field,
            parent=path.parent,
            name=path.name,
        )
    if number in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
        return tr(
            "{field}: {parent} cannot be written ({text}); choose another folder", field=field, parent=path.parent, text=text
        )
    if number == errno.EFBIG:
        return tr(
            "{field}: {name} is larger than {parent} allows; raise the file-size limit",
            field=field,
            name=path.name,
            parent=path.parent,
        )
    return None
