"""How many processor cores there are for this process."""

from __future__ import annotations

import os


def cores() -> int:
    """Those that it may use, at least 1: of a job or a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
