"""What a training tells the process that watches it: lines of JSON in a file, and that it ends when that process is gone."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

WATCH_FILE, PARENT = "FASHION_ML_WATCH_FILE", "FASHION_ML_PARENT"
"""Environment variables: where to write the lines, and the process to live and die with."""
Kind = Literal["val_loss", "image"]


def report(kind: Kind, step: int, value: float) -> None:
    """Write one line, if someone watches: `val_loss` of a training step, or weighted_total_loss of the image with that number."""
    place = os.environ.get(WATCH_FILE)
    if place:
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, "value": value}) + "\n")


class ChannelReader:
    """Reads a watch file as it grows."""

    def __init__(self, path: Path):
        self._path, self._read = path, 0

    def new(self) -> Iterator[tuple[str, int, float]]:
        """Kind, step and value of the whole lines that have come since."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            entry = json.loads(line)
            yield entry["kind"], entry["step"], entry["value"]


def end_with_parent() -> None:
    """End as by SIGTERM once the process that is named in the environment is this one's parent no more."""
    given = os.environ.get(PARENT, "")
    if not given.isdigit():
        return

    def watch() -> None:
        while os.getppid() == int(given):
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="end_with_parent").start()


def parent_to_live_with() -> int | None:
    """The process that started this one, with which it ends; None where it was put into the background on purpose.

    So does `nohup` (SIGHUP is ignored), `setsid` (a session of its own), and a script's `&` (SIGINT is ignored).
    """
    detached = os.getsid(0) == os.getpid() or signal.SIG_IGN in (
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGHUP),
    )
    return None if detached else os.getppid()


def is_orphaned(parent: int | None) -> bool:
    """Whether that process is this one's parent no more."""
    return parent is not None and os.getppid() != parent
