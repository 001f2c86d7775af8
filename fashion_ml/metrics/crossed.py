"""The difference of two recipes over training seeds and references at once: what is claimed must hold for other seeds and other references."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST_SEEDS = 3
"""Training seeds of each recipe below which nothing is said of recipes."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Crossed:
    """The mean difference of two recipes, in the unit of the values."""

    mean: float
    low: float
    high: float
    p: float
    """Two-sided, Student's t with `freedom`."""
    freedom: float
    """Degrees of freedom after Satterthwaite."""
    sees: float
    """The true difference that would be found in 80 % of such comparisons."""
    seed_sd: float
    """Standard deviation between training seeds of one recipe, of their means over the references."""


def crossed_difference(first: Floats, second: Floats, *, confidence: float = 0.95) -> Crossed | None:
    """Second minus first, of recipes whose every training seed was measured on the same references: (seeds, references) each, at least 2 x 2.

    Training seeds (within a recipe) and references (crossed with both) are random. The variance of the difference is that of the seeds' means
    plus that of the references' differences minus that of the interaction, which both contain, as in the two-way random-effects analysis of
    variance with the interaction as error; never less than either of the two. Degrees of freedom after Satterthwaite 1946,
    doi:10.2307/3002019. None where nothing varies.
    """
    from scipy.special import stdtr, stdtrit

    sides = (np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64))
    references = sides[0].shape[1]
    between = np.array([side.mean(axis=1).var(ddof=1) / len(side) for side in sides])
    between_freedom = np.array([len(side) - 1 for side in sides])
    differences = sides[1].mean(axis=0) - sides[0].mean(axis=0)
    of_references = float(differences.var(ddof=1)) / references
    error = np.array([_interaction(side) / len(side) / references for side in sides])
    error_freedom = between_freedom * (references - 1)
    of_seeds = float(between.sum())
    variance = max(of_seeds + of_references - float(error.sum()), of_seeds, of_references)
    if variance <= 0:
        return None
    spread = (between**2 / between_freedom).sum() + of_references**2 / (references - 1) + (error**2 / error_freedom).sum()
    freedom = max(variance**2 / float(spread), 1.0)
    mean, se = float(differences.mean()), math.sqrt(variance)
    reach = float(stdtrit(freedom, 0.5 + confidence / 2)) * se
    p = 2 * float(stdtr(freedom, -abs(mean) / se))
    sees = float(stdtrit(freedom, 0.5 + confidence / 2) + stdtrit(freedom, 0.80)) * se
    weights = between_freedom / between_freedom.sum()
    seed_sd = math.sqrt(float((weights * between * [len(side) for side in sides]).sum()))
    return Crossed(mean, mean - reach, mean + reach, p, freedom, sees, seed_sd)


def _interaction(values: Floats) -> float:
    """Mean square of what neither the seed nor the reference explains, of (seeds, references)."""
    left = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return float((left**2).sum() / ((values.shape[0] - 1) * (values.shape[1] - 1)))
