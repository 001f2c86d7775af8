"""The processes of a sweep or suite, to be killed at random."""

from __future__ import annotations

from pathlib import Path

import psutil

from fashion_ml.runtime.module_command import module_command


def role(process: psutil.Process) -> str:
    """`parent`, `worker` or `training` of a sweep or suite, or nothing."""
    words, begun = process.cmdline(), (["-m", "fashion_ml"], module_command("fashion_ml")[1:])
    kinds = {"sweep": "parent", "sweep-worker": "worker", "suite": "parent", "suite-worker": "worker", "train": "training"}
    return kinds.get(words[3], "") if words[1:3] in begun and len(words) > 3 else ""


def victims(folder: Path) -> dict[str, list[psutil.Process]]:
    """The running processes of the sweep or suite in a folder."""
    found: dict[str, list[psutil.Process]] = {"parent": [], "worker": [], "training": []}
    for process in psutil.process_iter():
        try:
            if (kind := role(process)) and process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found[kind].append(process)
        except psutil.Error:
            continue
    return found
