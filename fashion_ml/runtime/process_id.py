"""Which process a run belongs to, and whether that one still lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil

_SECONDS = 2.0
"""Two readings of one process's start may differ by less."""


def own_process() -> str:
    """The process that asks, as `host/pid/start`, start in seconds since 1970: a process id alone is given out again."""
    return f"{_host()}/{os.getpid()}/{psutil.Process().create_time():.1f}"


def is_gone(process: str) -> bool | None:
    """Whether a process noted by `own_process` has ended; None for one of another machine, and for text that is none."""
    host, _, numbers = process.partition("/")
    pid, _, start = numbers.partition("/")
    if host != _host():
        return None
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(start)) > _SECONDS
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.Error):
        return None


def _host() -> str:
    """Machine and, where there are any, the namespace of its process ids: containers may share a host name."""
    try:
        return f"{socket.gethostname()}:{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()
