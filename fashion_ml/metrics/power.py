"""What an evaluation of so many references and seeds can see, and how many it would take to see half of that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_MOST = 100_000
"""References beyond which nobody goes."""


@dataclass(frozen=True)
class Components:
    """Variance of a difference: between references, and between images of one reference (seeds)."""

    between: float
    within: float | None
    """None where no reference has two images."""

    def sd(self, seeds: int) -> float:
        """Standard deviation of a reference's mean over so many seeds; with `within` unknown that of the seeds there were."""
        return math.sqrt(self.between + (self.within or 0.0) / seeds)


@dataclass(frozen=True)
class Power:
    """The smallest true difference that is found in 80 % of evaluations like this one, in the unit of the metric."""

    sees: float
    references: int
    seeds: int
    for_half: int
    """References of as many seeds that would see half of `sees`."""
    for_half_more_seeds: tuple[int, int] | None = None
    """References and seeds, four times as many seeds as now, that would see half of it too; None where seeds cannot be told from references."""


def detectable(sd: float, n: int) -> float:
    """The difference that a two-sided test at 5 % over n references finds in 80 % of the cases: (t(0.975, n-1) + t(0.80, n-1)) sd / sqrt(n).

    `sd` is that of the references' differences, n at least 2.
    """
    from scipy.special import stdtrit

    return float((stdtrit(n - 1, 0.975) + stdtrit(n - 1, 0.80)) * sd / math.sqrt(n))


def components(by_reference: Mapping[Any, Sequence[float]]) -> Components:
    """Variance components of differences by reference and seed: one-way analysis of variance, within from references with several images.

    At least 2 references. A between component below 0 is 0. With unequal numbers of images their harmonic mean stands for the number.
    """
    groups = [np.asarray(values, dtype=np.float64) for values in by_reference.values()]
    means = np.array([group.mean() for group in groups])
    spread = float(means.var(ddof=1))
    freedom = sum(group.size - 1 for group in groups)
    if freedom == 0:
        return Components(spread, None)
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / freedom
    images = len(groups) / sum(1 / group.size for group in groups)
    return Components(max(spread - within / images, 0.0), within)


def power(by_reference: Mapping[Any, Sequence[float]]) -> Power | None:
    """What differences by reference and seed can see; None for fewer than 2 references and where all are equal."""
    if len(by_reference) < 2:
        return None
    means = np.array([np.mean(values) for values in by_reference.values()])
    sees = detectable(float(means.std(ddof=1)), len(means))
    if sees == 0:
        return None
    parts = components(by_reference)
    seeds = max(round(np.mean([len(values) for values in by_reference.values()])), 1)
    now = references_for(sees / 2, float(means.std(ddof=1)))
    more = None
    if parts.within is not None:
        more = (references_for(sees / 2, parts.sd(4 * seeds)), 4 * seeds)
    return Power(sees, len(means), seeds, now, more)


def references_for(difference: float, sd: float) -> int:
    """The fewest references, at least 6, with which `detectable` is at most a difference; 100,000 where more would be needed."""
    low, high = 6, _MOST
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if detectable(sd, middle) <= difference else (middle + 1, high)
    return low


def sees_of_recipes(seed_sd: float, reference_sd: float, seeds: int, references: int, *, level: float = 0.05) -> float:
    """The difference of two recipes, of so many training seeds each on the same references, that is found in 80 % of the cases at a level.

    `seed_sd` is the standard deviation between training seeds of one recipe, `reference_sd` that of the recipes' differences between
    references; t as of any two recipes (`metrics.crossed`). Seeds and references at least 2 each, and something varies.
    """
    from fashion_ml.metrics.crossed import Scatter

    of_seeds = 2 * seed_sd**2 / seeds
    return float(Scatter(of_seeds, 2.0 * (seeds - 1), reference_sd**2 / references, references - 1.0).sees_if_known(level))
