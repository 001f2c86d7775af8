"""Who may compute: a few requests at the same time, of which one is heavy, and of those that wait the one that asks for least.

So what is heavy never holds every turn, and between two of its steps it goes aside for whatever is lighter, and rests while that is computed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from threading import Condition

LIGHT = 64 * 64 * 25
"""Pixels times steps, over all images of a request, that are light: less than a step of 512 pixels."""
_LOOK_SECONDS, _WAITING, _REST, _REST_SECONDS = 0.2, 24, 3.0, 5.0
"""How often who waits looks whether it still may; how many heavy ones wait; how long one rests for light ones, in lengths of its own last step,
and at most."""
_numbers = itertools.count()


class FullError(Exception):
    """As many heavy requests wait as are let wait."""


class Share:
    """What one request asks for, in pixels times steps, and how far it is."""

    def __init__(self, cost: int = 0) -> None:
        self.cost, self.heavy, self.began, self.holds = cost, cost > LIGHT, False, False
        self.rank = cost, next(_numbers)
        """Who comes first: the lightest, and of the same the one that came first."""
        self.since = 0.0
        """When its last step began."""


class Turns:
    """Turns, of which `count` are held at the same time."""

    def __init__(self, count: int):
        self.free = count
        self._waiting: list[Share] = []
        self._holding: list[Share] = []
        self._changed = Condition()

    def take(self, share: Share, check: Callable[[], None]) -> None:
        """Wait for a turn. Whatever `check` raises, which is called on the way, ends the waiting; FullError for one more heavy one."""
        with self._changed:
            heavy = [one for one in self._waiting if one.heavy]
            if share.heavy and not share.began and len(heavy) >= _WAITING:
                raise FullError
            share.began = True
            self._waiting.append(share)
            try:
                while not self._may_begin(share):
                    self._changed.wait(_LOOK_SECONDS)
                    check()
                self.free -= 1
                self._holding.append(share)
                share.holds, share.since = True, time.monotonic()
            finally:
                self._waiting.remove(share)
                self._changed.notify_all()

    def give(self, share: Share) -> None:
        """End a turn, if there is one."""
        with self._changed:
            if share.holds:
                share.holds = False
                self._holding.remove(share)
                self.free += 1
                self._changed.notify_all()

    def step_aside(self, share: Share, check: Callable[[], None]) -> None:
        """Between two steps of a turn: let lighter ones go first. As `take`, and without a turn where that raises."""
        with self._changed:
            if share.heavy:
                self._rest(share, check)
            aside = any(self._is_in_the_way(share, one) for one in self._waiting)
        if aside:
            self.give(share)
            self.take(share, check)
        share.since = time.monotonic()

    def _may_begin(self, share: Share) -> bool:
        if not self.free or (share.heavy and any(one.heavy for one in self._holding)):
            return False
        return share is min(self._waiting, key=lambda one: one.rank)

    def _is_in_the_way(self, share: Share, waiting: Share) -> bool:
        """Whether one that is lighter waits for this turn."""
        return waiting.rank < share.rank and (not self.free or waiting.heavy)

    def _rest(self, share: Share, check: Callable[[], None]) -> None:
        """While light ones compute, for they would share processors with it; but it goes on in the end."""
        now = time.monotonic()
        until = now + min(_REST * (now - share.since), _REST_SECONDS)
        while any(not one.heavy for one in self._holding) and (left := until - time.monotonic()) > 0:
            self._changed.wait(min(_LOOK_SECONDS, left))
            check()
