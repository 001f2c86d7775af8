"""Ticks that people read: `3e-4` for a rate, and few enough that none lies over another."""

from __future__ import annotations

import math

_STEPS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8))
_FEWEST, _MOST = 3, 7


def short_number(value: float) -> str:
    """`3e-4`, `0.05`, `16`, `2.5e6`: at most three digits."""
    if value == 0 or 0.01 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"


def log_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers between two ends above 0, on a logarithmic axis: decades, else with what lies between them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for steps in _STEPS:
        ticks = [
            float(f"{step * 10.0**power:.6g}")
            for power in range(first, last + 1)
            for step in steps
            if low * (1 - 1e-9) <= step * 10.0**power <= high * (1 + 1e-9)
        ]
        if len(ticks) >= _FEWEST:
            return ticks[:: math.ceil(len(ticks) / _MOST)]
    middle = math.sqrt(low * high)
    return [float(f"{tick:.3g}") for tick in (low, middle, high)]
