"""One process at a time works in a folder: the lock comes before anything that is written there."""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fashion_ml.errors import InputError
from fashion_ml.runtime.console import warn
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.language import marked, tr, translated
from fashion_ml.runtime.links import refuse_links_out
from fashion_ml.runtime.own_file import open_own

LOCK = ".lock"
"""In the folder while a process works there; what a killed one has left holds nobody up."""
_TAKEN = (errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_FIX = marked("wait for its end, or choose another folder")
_TRIES, _BETWEEN_SECONDS = 5, 0.02
"""Of taking a lock: another process may only have looked whether it is held."""
_held: dict[tuple[int, str], _Held] = {}


class _Held:
    """A lock that this thread holds."""

    def __init__(self, folder: Path):
        self.folder, self.made, self.descriptor = folder, list[Path](), -1


@contextmanager
def folder_lock(folder: Path, field: str = "output.output_dir", fix: str = _FIX) -> Iterator[None]:
    """The folder, made where it is not there, is this thread's for the block; what is locked by it already stays so.

    Afterwards the lock's file goes, and the folder too where it was made here and is empty. InputError, naming the setting `field`
    and a `fix`, while another process, or another thread, works in it, and where a link in it leads to a folder elsewhere.
    """
    key = (threading.get_ident(), str(folder.absolute()))
    if key in _held:
        yield
        return
    refuse_links_out(folder, field)
    held = _Held(folder.absolute())
    _take(held, field, fix)
    _held[key] = held
    try:
        yield
    finally:
        del _held[key]
        _let_go(held)


def is_locked(folder: Path) -> bool:
    """Whether another process, or another thread, works in a folder."""
    if (threading.get_ident(), str(folder.absolute())) in _held:
        return False
    try:
        descriptor = open_own(folder / LOCK, make=False)
    except OSError:
        return False
    try:
        return not _locked_by_us(descriptor)
    finally:
        os.close(descriptor)


def lock_again(folder: Path, aside: Path, field: str = "output.output_dir") -> None:
    """Behind a move of a locked folder `aside`: lock the one that is now of its name, and no longer what was moved.

    InputError where another process was faster.
    """
    held = _held.get((threading.get_ident(), str(folder.absolute())))
    if held is None:
        return
    before = held.descriptor
    _take(held, field, _FIX)
    (aside / LOCK).unlink(missing_ok=True)
    os.close(before)


def refuse_locked(folder: Path, field: str = "output.output_dir") -> None:
    """InputError while another process works in a folder; nothing is written."""
    if is_locked(folder):
        raise InputError(_refusal(folder, field, _FIX))


@contextmanager
def in_turn(folder: Path, seconds: float = 20.0) -> Iterator[None]:
    """Commands that change the same files of a folder do so one after the other, and nothing is left in it: the folder itself is locked.

    One that waited so many seconds goes on, as where the folder is not there or knows no locks: the other one may be stopped.
    """
    descriptor = None
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(_BETWEEN_SECONDS)
    except (ImportError, OSError):  # Windows, no folder of this machine, or one without locks
        pass
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _take(held: _Held, field: str, fix: str) -> None:
    path, missing = held.folder / LOCK, None
    for _ in range(_TRIES):
        held.made = list(itertools.takewhile(lambda one: not one.exists(), (held.folder, *held.folder.parents)))
        try:
            held.folder.mkdir(parents=True, exist_ok=True)
            descriptor = open_own(path)
        except FileNotFoundError as error:  # another process removed what it had made, or no folder can be, as in /proc
            missing = error
            continue
        except OSError as error:
            raise InputError(_unwritable(held.folder, field, error)) from error
        missing = None
        if _locked_by_us(descriptor) and _is(descriptor, path):
            held.descriptor = descriptor
            with suppress(OSError):  # a full disk: it is only for the message
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return
        os.close(descriptor)  # another one's, or removed by it in between
        time.sleep(_BETWEEN_SECONDS)
    if missing is not None:
        raise InputError(_unwritable(held.folder, field, missing)) from missing
    raise InputError(_refusal(held.folder, field, fix))


def _unwritable(folder: Path, field: str, error: OSError) -> str:
    why = error.strerror or str(error)
    return tr("{field}: {folder!r} cannot be written ({why}); choose another folder", field=field, folder=str(folder), why=why)


def _let_go(held: _Held) -> None:
    path = held.folder / LOCK
    with suppress(OSError):
        if _is(held.descriptor, path):
            path.unlink()
    os.close(held.descriptor)
    with suppress(OSError):  # not empty
        for folder in held.made:
            folder.rmdir()


def _locked_by_us(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if error.errno not in _NO_LOCKS:
            raise
        warn(
            tr(
                "this file system knows no locks, so that nothing keeps a second command out of the folder; start "
                "only one there"
            )
        )
    return True


def _is(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one of that name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _refusal(folder: Path, field: str, fix: str) -> str:
    try:
        number = read_whole(folder / LOCK, 100).decode("utf-8", errors="replace").strip()
    except OSError:
        number = ""
    by = tr(" (process {number})", number=number) if number.isdecimal() else ""
    return tr(
        "{field}: another command is at work in {folder!r}{by}; {fix}",
        field=field,
        folder=str(folder),
        by=by,
        fix=translated(fix),
    )
