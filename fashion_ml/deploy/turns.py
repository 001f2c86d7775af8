"""Who may compute: a few requests at the same time, and of those that wait the one that has computed least.

So many slow requests cannot keep a quick one waiting: each steps aside between two of its steps for whoever has had less.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_LOOK_SECONDS = 0.2


class Share:
    """What one request has had."""

    def __init__(self) -> None:
        self.used = 0.0
        """Seconds."""
        self.since: float | None = None
        """When its turn began; None without one."""

    def count(self) -> None:
        """Add what passed since it was last counted."""
        if self.since is not None:
            now = time.monotonic()
            self.used, self.since = self.used + now - self.since, now


class Turns:
    """Turns, of which `count` are held at the same time."""

    def __init__(self, count: int):
        self.free = count
        self._waiting: list[Share] = []
        self._changed = threading.Condition()

    def take(self, share: Share, check: Callable[[], None]) -> None:
        """Wait for a turn. Whatever `check` raises, which is called on the way, ends the waiting."""
        with self._changed:
            self._waiting.append(share)
            try:
                while not (self.free and self._next() is share):
                    self._changed.wait(_LOOK_SECONDS)
                    check()
                self.free -= 1
                share.since = time.monotonic()
            finally:
                self._waiting.remove(share)
                self._changed.notify_all()

    def give(self, share: Share) -> None:
        """End a turn, if there is one."""
        with self._changed:
            if share.since is not None:
                share.count()
                share.since = None
                self.free += 1
                self._changed.notify_all()

    def step_aside(self, share: Share, check: Callable[[], None]) -> None:
        """Between two steps of a turn: let others go first that wait and have had less. As `take`, and without a turn where that raises."""
        share.count()
        with self._changed:
            others = bool(self._waiting) and self._next().used < share.used
        if others:
            self.give(share)
            self.take(share, check)

    def _next(self) -> Share:
        return min(self._waiting, key=lambda one: one.used)
