"""Which of many metric points a store does not take: halved, so that what it takes is sent, and with an end to the asking."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

Point = list[Any]
"""Key, value, time in ms, step."""
_Part = list[tuple[int, Point]]
_ENOUGH = 3
"""So many points of a key must be refused alone, and none be taken, for its points of a request to be asked for together."""
_MOST = 5000
"""Points that are found alone by one process; beyond that what is refused is not divided any more, and waits for a later sync."""


class Divider:
    """Sends the points of refused requests in parts, and learns by it which keys the store never takes."""

    def __init__(self) -> None:
        self._refused, self._taken, self._alone = Counter[str](), set[str](), 0

    def left(
        self, points: list[Point], send: Callable[[list[Point]], None], refusal: type[Exception]
    ) -> tuple[list[Point], list[Point]]:
        """Of the points of a refused request those that are refused after all, and those that were not looked for, in their order.

        `send` raises `refusal` for points that the store does not take; whatever else it raises goes through.
        """
        refused, left, unknown = [list(enumerate(points))], _Part(), _Part()
        while refused:
            part = refused.pop()
            smaller = self._smaller(part)
            if not smaller:
                (unknown if len(part) > 1 and self._alone >= _MOST else left).extend(part)
            for some in smaller:
                try:
                    send([point for _, point in some])
                    self._taken.update(point[0] for _, point in some)
                except refusal:
                    refused.append(some)
                    if len(some) == 1:
                        self._refused[some[0][1][0]] += 1
                        self._alone += 1
        return _in_order(left), _in_order(unknown)

    def _smaller(self, part: _Part) -> list[_Part]:
        """What a refused part is tried as next: keys that are never taken on their own, else halves; nothing where it is known enough."""
        if len(part) == 1 or self._alone >= _MOST:
            return []
        apart, rest = defaultdict[str, _Part](list), _Part()
        for pair in part:
            (apart[pair[1][0]] if self._is_hopeless(pair[1][0]) else rest).append(pair)
        if apart:
            return [*apart.values(), *([rest] if rest else [])] if rest or len(apart) > 1 else []
        half = len(part) // 2
        return [part[:half], part[half:]]

    def _is_hopeless(self, key: str) -> bool:
        return self._refused[key] >= _ENOUGH and key not in self._taken


def _in_order(part: _Part) -> list[Point]:
    return [point for _, point in sorted(part, key=lambda pair: pair[0])]
