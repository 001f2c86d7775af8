"""How often chance alone would give a mean so far from 0: the sign-flip test, and Holm's correction where several are asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

EXACT = 14
"""Values other than 0 up to which every pattern of signs is tried, 2 ** 14 of them."""
DRAWS = 20_000
_TIE = 1e-9
"""Sums that differ by less than this part of the sum of absolute values are equal: what differs is rounding."""

Name = TypeVar("Name")


def sign_flip_p(values: Sequence[float], *, seed: int = 0) -> float:
    """Two-sided p of the hypothesis that differences (n,) are symmetric about 0: the share of patterns of signs that give a mean as far from 0.

    Every pattern up to 14 values other than 0, else 20,000 drawn with a fixed seed, of which the observed one is counted too (Phipson & Smyth
    2010, doi:10.2202/1544-6115.1585). Values of 0 change no sum and count for nothing; without others p is 1. ValueError for no values.
    Fisher 1935, The Design of Experiments, section 21.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        raise ValueError("values: there are none; a test needs at least one")
    data = data[data != 0]
    if data.size == 0:
        return 1.0
    total = np.abs(data).sum()
    observed = abs(data.sum()) - _TIE * total
    if data.size <= EXACT:
        patterns = (
            np.arange(2 ** (data.size - 1))[:, None] >> np.arange(data.size - 1) & 1
        )  # the last sign stays: -x is as far as x
        sums = data[-1] + (1.0 - 2.0 * patterns) @ data[:-1]
        return float((np.abs(sums) >= observed).mean())
    signs = np.random.default_rng(seed).integers(0, 2, (DRAWS, data.size), dtype=np.int8)
    sums = total_of_signs(signs, data)
    return float((1 + (np.abs(sums) >= observed).sum()) / (1 + DRAWS))


def total_of_signs(signs: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Sums of the values (n,) with the signs (draws, n), 0 for minus."""
    return (2.0 * signs - 1.0) @ data


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """Each p corrected for there being several: what stays below 0.05 is wrong about any of them in at most 5 % of the cases.

    Holm 1979, doi:10.2307/4615733: the smallest times their number, the next times one less, …, never below the one before.
    """
    found: dict[Name, float] = {}
    largest = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min((len(p_values) - rank) * p, 1.0))
        found[name] = largest
    return {name: found[name] for name in p_values}
