"""Spans of time as people say them."""

from __future__ import annotations

from fashion_ml.runtime.language import tr

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def duration(seconds: float) -> str:
    """A span of time in its two largest units, with seconds below ten minutes; seconds to one digit below ten.

    >>> [duration(one) for one in (4.26, 42, 135, 780, 10620, 200000)]
    ['4.3 s', '42 s', '2 min 15 s', '13 min', '2 h 57 min', '2 d 8 h']
    """
    seconds = max(seconds, 0.0)
    if seconds < 9.95:
        return f"{seconds:.1f} {tr('s')}"
    if seconds < 59.5:
        return f"{seconds:.0f} {tr('s')}"
    if seconds < 10 * _MINUTE - 0.5:
        return _pair(seconds, _MINUTE, tr("min"), 1, tr("s"))
    if seconds < _HOUR - _MINUTE / 2:
        return f"{seconds / _MINUTE:.0f} {tr('min')}"
    if seconds < _DAY - _MINUTE / 2:
        return _pair(seconds, _HOUR, tr("h"), _MINUTE, tr("min"))
    return _pair(seconds, _DAY, tr("d"), _HOUR, tr("h"))


def _pair(seconds: float, large: int, name: str, small: int, small_name: str) -> str:
    """Rounded to the smaller unit, which is left out where there is none of it."""
    units, rest = divmod(round(seconds / small), large // small)
    return f"{units} {name}" + (f" {rest} {small_name}" if rest else "")
