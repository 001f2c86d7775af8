"""Opening to be written what we keep in a folder that may come from anywhere: a file of that folder, never one that a link leads to."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from fashion_ml.runtime.language import tr

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def open_own(path: Path, flags: int = 0, *, make: bool = True) -> int:
    """A descriptor of a file, for reading and writing, made where it is not there for its owner alone. OSError for a link and for what is no
    file: it is not touched."""
    try:
        number = os.open(path, os.O_RDWR | (os.O_CREAT if make else 0) | _NO_LINK | flags, 0o600)
    except OSError as error:
        raise (_other(path) if error.errno == errno.ELOOP else error) from None
    if stat.S_ISREG(os.fstat(number).st_mode):
        return number
    os.close(number)
    raise _other(path)


def _other(path: Path) -> OSError:
    return OSError(errno.EINVAL, tr("{name} is a link, a pipe or a device", name=path.name), str(path))
