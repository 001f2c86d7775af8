"""Opening to be written what we keep in a folder that may come from anywhere: a file of that folder, never one that a link leads to."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def open_own(path: Path, flags: int = 0, *, make: bool = True, mode: int = 0o600) -> int:
    """A descriptor of a file, for reading and writing, made where it is not there: for its owner alone, or with another `mode`. OSError for a
    link and for what is no file: it is not touched."""
    try:
        number = os.open(path, os.O_RDWR | (os.O_CREAT if make else 0) | _NO_LINK | flags, mode)
    except OSError as error:
        raise (_other(path) if error.errno == errno.ELOOP else error) from None
    if stat.S_ISREG(os.fstat(number).st_mode):
        return number
    os.close(number)
    raise _other(path)


def open_log(path: Path, field: str) -> BinaryIO:
    """A log to add to, with its path as its name and the permissions of new files. InputError, naming the setting `field`, as `open_own`."""
    try:
        return open(path, "ab", opener=lambda name, _: open_own(Path(name), os.O_APPEND, mode=0o666))
    except OSError as error:
        raise _unusable(path, field, error) from error


def check_own(path: Path, field: str) -> None:
    """InputError, naming the setting `field`, where in the place of a file that we open by its name is a link, or what is no file."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise _other(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(path, field, error) from None


def _unusable(path: Path, field: str, error: OSError) -> InputError:
    why = error.strerror or str(error)
    return InputError(tr("{field}: {path!r} cannot be written ({why}); move it away", field=field, path=str(path), why=why))


def _other(path: Path) -> OSError:
    return OSError(errno.EINVAL, tr("{name} is a link, a pipe or a device", name=path.name), str(path))
