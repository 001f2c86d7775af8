"""How much memory this process may take: what the machine has, or less where its control group, a container's or a job's, is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr

GIB = 1 << 30
COUNTED_FROM = 1 << 15
"""Latent cells of a batch from which on what it needs is counted first; eight images of 512 pixels have as many, with a VAE that makes one
cell of 8 x 8."""
_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
"""The files of a limit and of what is used, and the line of memory.stat with pages of files that the system takes back first."""


def total_memory() -> int:
    """Bytes this process may have at most."""
    return min([psutil.virtual_memory().total, *(limit for limit, _ in _bounds())])


def free_memory_left() -> int:
    """Bytes this process may still take."""
    return min([psutil.virtual_memory().available, *(max(0, limit - used) for limit, used in _bounds())])


def refuse_too_large(field: str, what: str, needed: int, fix: str) -> None:
    """InputError where what is about to be done needs more bytes than this process may have, with both sizes and what to do."""
    if needed <= (there := total_memory()):
        return
    sizes = {"wanted": needed / GIB, "there": there / GIB}
    if there < psutil.virtual_memory().total:
        told = tr("{what} needs some {wanted:.1f} GiB, and this container or job may take {there:.1f} GiB", what=what, **sizes)
    else:
        told = tr("{what} needs some {wanted:.1f} GiB, and this machine has {there:.1f} GiB", what=what, **sizes)
    raise InputError(tr("{field}: {told}; {fix}", field=field, told=told, fix=fix))


def _bounds() -> Iterator[tuple[int, int]]:
    """Limit and use in bytes, without pages of files that are not in use, of this process's control group and of those it lies in, where they
    have a limit.

    Of both versions (Linux, admin-guide/cgroup-v2 and cgroup-v1/memory); in a container the group is often the root of what it sees.
    """
    try:
        lines = _OWN.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux, or not for us to see
        return
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        root, (limit, used, idle) = (_ROOT / "memory", _V1) if controllers else (_ROOT, _V2)
        own = root / path.lstrip("/")
        for folder in (own, *own.parents):
            with suppress(OSError, ValueError):  # no limit is written as `max`
                most, taken = (int((folder / name).read_text(encoding="ascii")) for name in (limit, used))
                yield most, taken - _line_of(folder / "memory.stat", idle)
            if folder == root:
                break


def _line_of(file: Path, name: str) -> int:
    """The number behind a name in a file of such lines; 0 where it has no such line."""
    lines = (line.split() for line in file.read_text(encoding="ascii").splitlines())
    return next((int(line[1]) for line in lines if line[:1] == [name]), 0)
