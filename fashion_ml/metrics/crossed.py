"""What is claimed of recipes must hold for other training seeds and for other references: both scatter, crossed with each other.

Values of a recipe are (seeds, references): every training seed was measured on the same references. Two-way random effects: the mean's
variance is that of the seeds' means plus that of the references' means, less the interaction, which is in both.

Degrees of freedom. Satterthwaite's (1946, doi:10.2307/3002019) alone are too many where 3 seeds decide (the interval of a mean covers 92
%), and with the interaction among what scatters too few where little does (99 %). So the interaction counts in neither (Hillis 2007,
doi:10.1002/sim.2532), and t is the mean of Satterthwaite's, which is a little too small, and of Cochran & Cox's (1950, Experimental
Designs), which is a little too large. Of two recipes the seeds' part has the degrees of freedom of Welch 1947, doi:10.2307/2332510.
Simulated over 3 to 6 seeds, 12 to 32 references and what scatters from nothing to everything, the intervals cover 93.5 to 96.8 %
(tests/unit/metrics/test_coverage.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_ml.metrics.bootstrap import Interval

FEWEST_SEEDS = 3
"""Training seeds of each recipe below which nothing is said of recipes."""
MOST_SEEDS = 200
"""Beyond which nobody goes."""

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
    """Degrees of freedom after Satterthwaite, Cochran & Cox and Welch."""
    sees: float
    """The true difference that would be found in 80 % of such comparisons, at the level that was asked for."""
    seed_sd: float
    """Standard deviation between training seeds of one recipe, of their means over the references."""


@dataclass(frozen=True)
class Scatter:
    """What a mean, or a difference of two, has by chance: its variance in two parts, of one or of many (an array of each) at once."""

    seeds: Any
    """Variance of the mean by the seeds, what they share with references included."""
    seeds_freedom: Any
    references: Any
    """Variance of the mean by the references alone, never below 0."""
    references_freedom: float

    @property
    def variance(self) -> Any:
        """Of the mean; 0 where nothing varies."""
        return self.seeds + self.references

    @property
    def freedom(self) -> Any:
        """Degrees of freedom of Student's t, at least 1; NaN where nothing varies."""
        from scipy.special import stdtridf, stdtrit

        with np.errstate(invalid="ignore", divide="ignore"):
            parts = self.seeds**2 / self.seeds_freedom + self.references**2 / self.references_freedom
            satterthwaite = stdtrit(np.maximum(self.variance**2 / parts, 1.0), 0.975)
            both = self.seeds * stdtrit(np.maximum(self.seeds_freedom, 1.0), 0.975)
            cochran = (both + self.references * stdtrit(self.references_freedom, 0.975)) / self.variance
        return np.maximum(stdtridf(0.975, (satterthwaite + cochran) / 2), 1.0)

    def reach(self, confidence: Any = 0.95) -> Any:
        """Half of the interval's width."""
        from scipy.special import stdtrit

        return stdtrit(self.freedom, 0.5 + np.asarray(confidence) / 2) * np.sqrt(self.variance)

    def p(self, mean: Any) -> Any:
        """How often chance alone would give a mean so far from 0."""
        from scipy.special import stdtr

        return 2 * stdtr(self.freedom, -np.abs(mean) / np.sqrt(self.variance))

    def sees(self, level: float = 0.05) -> Any:
        """The true difference that a two-sided test at a level finds in 80 % of the cases, where the variances are estimates of so many degrees
        of freedom: standard deviations of few values are too small on average (Holtzman 1950, doi:10.2307/2681142)."""
        return self.sees_if_known(level) / too_small(self.freedom)

    def sees_if_known(self, level: float = 0.05) -> Any:
        """The same where the variances are known: by the noncentral t distribution."""
        from scipy.special import nctdtrinc, stdtrit

        return nctdtrinc(self.freedom, 0.20, stdtrit(self.freedom, 1 - level / 2)) * np.sqrt(self.variance)


def too_small(freedom: Any) -> Any:
    """The mean of a standard deviation of normal values with so many degrees of freedom, as a share of the true one: 0.94 of 4."""
    from scipy.special import gammaln

    return np.sqrt(2 / freedom) * np.exp(gammaln((freedom + 1) / 2) - gammaln(freedom / 2))


def scatter_of_mean(values: Floats) -> Scatter:
    """Of the mean of one recipe's values (..., seeds, references), at least 2 x 2."""
    seeds, references = values.shape[-2:]
    of_seeds, of_references, error = _parts(values)
    return Scatter(of_seeds, float(seeds - 1), np.maximum(of_references - error, 0.0), float(references - 1))


def scatter_of_difference(first: Floats, second: Floats) -> Scatter:
    """Of the difference of the means of two recipes (..., seeds, references), which share the references; at least 2 seeds each."""
    sides = (np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64))
    references = sides[0].shape[-1]
    parts = [_parts(side) for side in sides]
    seeds = [side.shape[-2] for side in sides]
    differences = sides[1].mean(axis=-2) - sides[0].mean(axis=-2)
    of_references = differences.var(axis=-1, ddof=1) / references
    of_seeds = parts[0][0] + parts[1][0]
    error = parts[0][2] + parts[1][2]
    freedom = _welch([part[0] for part in parts], seeds)
    return Scatter(of_seeds, freedom, np.maximum(of_references - error, 0.0), float(references - 1))


def _welch(variances: Sequence[Any], seeds: Sequence[int]) -> Any:
    """Welch's degrees of freedom of a sum of independent variances, each over so many seeds: between those of the smallest and of all."""
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = sum(one**2 / (count + 1) for one, count in zip(variances, seeds, strict=True))
        found = np.asarray(sum(variances)) ** 2 / parts - 2
    return np.where(np.isnan(found), min(seeds) - 1, np.clip(found, min(seeds) - 1, sum(seeds) - len(seeds)))


def _parts(values: Floats) -> tuple[Any, Any, Any]:
    """Variance of the mean of (..., seeds, references) by the seeds' means, by the references' means, and by the interaction in both."""
    seeds, references = values.shape[-2:]
    by_seed, by_reference = values.mean(axis=-1), values.mean(axis=-2)
    left = values - by_reference[..., None, :] - by_seed[..., :, None] + values.mean(axis=(-2, -1))[..., None, None]
    error = (left**2).sum(axis=(-2, -1)) / ((seeds - 1) * (references - 1) * seeds * references)
    return by_seed.var(axis=-1, ddof=1) / seeds, by_reference.var(axis=-1, ddof=1) / references, error


def crossed_mean(values: Floats, *, confidence: float = 0.95) -> Interval:
    """The mean of one recipe (seeds, references) with its interval, which holds for other seeds and other references; `n` is the references'.

    No interval for one seed or one reference, and where nothing varies.
    """
    values = np.asarray(values, dtype=np.float64)
    mean, references = float(values.mean()), values.shape[1]
    if min(values.shape) < 2:
        return Interval(mean, None, None, references)
    scatter = scatter_of_mean(values)
    if scatter.variance <= 0:
        return Interval(mean, None, None, references)
    reach = float(scatter.reach(confidence))
    return Interval(mean, mean - reach, mean + reach, references)


def crossed_difference(first: Floats, second: Floats, *, confidence: float = 0.95, level: float = 0.05) -> Crossed | None:
    """Second minus first, of recipes whose every training seed was measured on the same references: (seeds, references) each, at least 2 x 2.

    Training seeds (within a recipe) and references (crossed with both) are random. `level` is how small p has to be, for what can be seen.
    None where nothing varies.
    """
    sides = (np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64))
    scatter = scatter_of_difference(*sides)
    if scatter.variance <= 0:
        return None
    mean, reach = float(sides[1].mean() - sides[0].mean()), float(scatter.reach(confidence))
    return Crossed(
        mean,
        mean - reach,
        mean + reach,
        float(scatter.p(mean)),
        float(scatter.freedom),
        float(scatter.sees(level)),
        _seed_sd(sides),
    )


def _seed_sd(recipes: Sequence[Floats]) -> float:
    """Standard deviation between the seeds of one recipe, of their means over the references, over all recipes of at least 2 seeds."""
    means = [values.mean(axis=1) for values in recipes if len(values) > 1]
    squares = sum(float(((one - one.mean()) ** 2).sum()) for one in means)
    return float(np.sqrt(squares / sum(len(one) - 1 for one in means))) if means else 0.0


@dataclass(frozen=True)
class Spread:
    """Where the values of several recipes scatter from: variances of single values (one training, one reference), in the unit's square."""

    recipes: float
    seeds: float
    references: float
    """Some references are harder for every recipe."""
    matches: float
    """Some references suit some recipes."""
    rest: float
    """What is left: one training on one reference."""
    seed_sd: float
    """How far another training seed moves a recipe's mean over these references (standard deviation)."""
    apart: float
    """The largest mean of a recipe less the smallest."""
    by_chance: float
    """How far apart so many recipes of so many seeds would lie on average if they were equal, by the seeds alone."""

    def shares(self) -> dict[str, float]:
        """Each part's share of the whole; all 0 where nothing varies."""
        parts = {name: getattr(self, name) for name in ("seeds", "references", "recipes", "matches", "rest")}
        whole = sum(parts.values())
        return {name: value / whole if whole else 0.0 for name, value in parts.items()}


def spread_of(recipes: Sequence[Floats]) -> Spread:
    """The parts of recipes' values, (seeds, references) each, of the same references, at least 2; recipes may have other numbers of seeds.

    Analysis of variance by the method of moments; a part that comes out below 0 is 0. A recipe of one seed says nothing of seeds.
    """
    values = [np.asarray(one, dtype=np.float64) for one in recipes]
    references = values[0].shape[1]
    several = [one for one in values if len(one) > 1]
    freedom = sum(len(one) - 1 for one in several)
    rest = sum(_parts(one)[2] * len(one) * references * (len(one) - 1) for one in several) / freedom if freedom else 0.0
    seed_sd = _seed_sd(values)
    seeds = max(seed_sd**2 - rest / references, 0.0)
    means = np.array([one.mean(axis=0) for one in values])
    fewer = float(np.mean([1 / len(one) for one in values]))
    by_recipe, by_reference, count = means.mean(axis=1), means.mean(axis=0), len(values)
    matches = between = 0.0
    if count > 1:
        matches = max(_parts(means)[2] * count * references - rest * fewer, 0.0)
        between = max(float(by_recipe.var(ddof=1)) - seeds * fewer - (matches + rest * fewer) / references, 0.0)
    hard = max(float(by_reference.var(ddof=1)) - (matches + rest * fewer) / count, 0.0)
    chance = seed_sd * float(np.sqrt(fewer)) * _range_of_normal(count)
    return Spread(between, seeds, hard, float(matches), float(rest), seed_sd, float(np.ptp(by_recipe)), chance)


def _range_of_normal(count: int) -> float:
    """The mean of the largest less the smallest of so many standard normal values (Tippett 1925): 1.128 of 2, 1.693 of 3."""
    from scipy.special import ndtr

    at = np.linspace(-8.0, 8.0, 1601)
    return float(np.trapezoid(1 - ndtr(at) ** count - ndtr(-at) ** count, at))


def seeds_to_show(difference: float, first: Floats, second: Floats, *, level: float = 0.05) -> int | None:
    """The fewest training seeds of each recipe that show a true difference in 80 % of the cases on as many references; None beyond 200.

    `level` is how small p has to be. None also where `hidden_by_references`, or nothing varies. Of values (seeds, references) each, at least
    2 x 2.
    """
    sides = (np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64))
    found = scatter_of_difference(*sides)
    if found.variance <= 0 or difference == 0:
        return None
    wanted, parts = abs(difference) * float(too_small(found.freedom)), [float(_parts(side)[0]) * len(side) for side in sides]

    def shown(count: int) -> bool:
        seeds = sum(parts) / count
        freedom = _welch([part / count for part in parts], [count, count])
        return bool(Scatter(seeds, freedom, found.references, found.references_freedom).sees_if_known(level) <= wanted)

    low, high = FEWEST_SEEDS, MOST_SEEDS  # more seeds see more
    if not shown(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if shown(middle) else (middle + 1, high)
    return low


def hidden_by_references(difference: float, first: Floats, second: Floats, *, level: float = 0.05) -> bool:
    """Whether no number of training seeds would show a true difference in 80 % of the cases, because some references suit one recipe and
    others the other: it takes more references."""
    found = scatter_of_difference(np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64))
    alone = Scatter(0.0, 1.0, found.references, found.references_freedom)
    return bool(found.references > 0 and alone.sees_if_known(level) / too_small(found.freedom) > abs(difference))
