"""Output to a pipe whose reader may go away, as `2>&1 | head` does: the work goes on, and nobody hears the rest."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from typing import Any

_GONE = (errno.EPIPE, errno.ECONNRESET)


class _Lasting(io.FileIO):
    """A descriptor that takes everything, also when nobody reads it any more."""

    _gone = False

    def write(self, content: Any) -> int:
        """As FileIO has it."""
        if not self._gone:
            try:
                return super().write(content) or 0
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                self._gone = True
        return len(memoryview(content).cast("B"))


def outlive_readers() -> None:
    """From now on what is written to stdout and stderr, where they are pipes, is lost when their reader goes away, and raises nothing."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__") or not _is_pipe(stream):
            continue  # a file, a terminal, or what a test has put there
        raw = _Lasting(stream.fileno(), "w", closefd=False)
        whole = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, line_buffering=stream.line_buffering
        )
        stream.flush()
        setattr(sys, name, whole)
        setattr(sys, f"__{name}__", whole)


def _is_pipe(stream: Any) -> bool:
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
