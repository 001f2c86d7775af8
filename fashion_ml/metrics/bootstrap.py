"""Percentile bootstrap intervals of a mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean with its interval, all in the unit of the values; None where a single value gives no interval."""

    mean: float
    low: float | None
    high: float | None

    @property
    def ends(self) -> tuple[float, float] | None:
        """Low and high, or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def bootstrap_mean(values: Sequence[float], *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Percentile bootstrap of the mean over independent items (reference images), fixed seed.

    For a paired difference pass the differences. One value has a mean and no interval. ValueError for no values.
    Efron 1979, doi:10.1214/aos/1176344552.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        raise ValueError("values: there are none; a mean needs at least one")
    if data.size == 1:
        return Interval(float(data[0]), None, None)
    rng = np.random.default_rng(seed)
    means = data[rng.integers(0, data.size, (resamples, data.size))].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean=float(data.mean()), low=float(low), high=float(high))
