"""Which process a run belongs to, and whether that one still lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil

_SECONDS = 2.0
"""Two readings of one process's start may differ by less."""


def own_process() -> str:
    """The process that asks, as `host/pid/start`, for a process id alone is given out again. The start is counted from the machine's own, which
    it names: the clock on the wall may be set while it runs. Without /proc it is in seconds since 1970."""
    return f"{host()}/{os.getpid()}/{_start(os.getpid()) or f'{psutil.Process().create_time():.1f}'}"


def is_gone(process: str) -> bool | None:
    """Whether a process noted by `own_process` has ended; None for one of another machine, and for text that is none."""
    where, _, numbers = process.partition("/")
    pid, _, start = numbers.partition("/")
    if where != host():
        return None
    try:
        if "-" in start:
            return not psutil.pid_exists(int(pid)) or _start(int(pid)) != start
        return abs(psutil.Process(int(pid)).create_time() - float(start)) > _SECONDS
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.Error):
        return None


def _start(pid: int) -> str:
    """Which start of the machine, and how many ticks after it the process began; empty where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
    return f"{boot}-{ticks}"


def host() -> str:
    """Machine and, where there are any, the namespace of its process ids: containers may share a host name."""
    try:
        return f"{socket.gethostname()}:{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()
