"""Looking again after every training seed without fooling oneself: how small p has to be at each look.

Group-sequential bounds by alpha spending (Lan & DeMets 1983, doi:10.2307/2336502): of the 5 % for being wrong, a look may use up what the
Pocock-type function ln(1 + (e - 1) t) allows at its share t of the most seeds, so that all looks together stay at 5 % whenever the suite
stops. The Pocock type, because the first look is at 3 seeds: there O'Brien and Fleming's asks for p < 0.003, of which Student's t with
three degrees of freedom knows little, and the search for large differences is what stopping early is for. p-values of Student's t are held
against the bounds' own (the significance level approach of Jennison & Turnbull 2000, Group Sequential Methods, ch. 3). References are the
same at every look, so that looks are more alike than the bounds take them to be: fewer false alarms, never more.

Several recipes: `p_of_looks` is the smallest overall level at which any look so far was significant (Liu & Anderson 2008,
doi:10.1016/j.jspi.2007.09.006); Holm's correction over these keeps the 5 % for all recipes together (Maurer & Bretz 2013,
doi:10.1080/19466315.2013.807748), whichever stop first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SOURCE = "Lan & DeMets 1983, Pocock-type spending"
_POINTS = 241
"""Of the integration between the bounds."""
_HALVINGS = 32
_SMALLEST, _LEVELS = 1e-12, 60

Floats = NDArray[np.float64]


def spent(share: float, level: float = 0.05) -> float:
    """How much of the level may be used up when this share (0 to 1) of the most seeds is there; Pocock-type spending."""
    return level * math.log1p((math.e - 1) * min(max(share, 0.0), 1.0))


def levels(looks: Sequence[int], level: float = 0.05) -> tuple[float, ...]:
    """The two-sided p below which each look is significant, for looks at these numbers of seeds, ascending, the last the most.

    One look has the level itself. ValueError for looks that do not ascend.
    """
    if not looks or looks[0] < 1 or any(later <= earlier for earlier, later in pairwise(looks)):
        raise ValueError(f"looks: {list(looks)} do not ascend; give numbers of seeds such as 3, 4, 5")
    return _levels(tuple(looks), level)


@lru_cache(maxsize=4096)
def _levels(looks: tuple[int, ...], level: float) -> tuple[float, ...]:
    """By recursion over the looks' scores, which grow by independent steps (Armitage, McPherson & Rowe 1969, doi:10.2307/2343787)."""
    from scipy.special import ndtr, ndtri

    found: list[float] = []
    at = density = np.zeros(0)  # of the sum of steps, where no look has been significant yet
    for number, seeds in enumerate(looks):
        steps = looks[number] - (looks[number - 1] if number else 0)
        may = spent(seeds / looks[-1], level) - (spent(looks[number - 1] / looks[-1], level) if number else 0.0)
        if number == 0:
            bound = -float(ndtri(may / 2)) * math.sqrt(seeds)
        else:
            width = at[1] - at[0]
            bound = _bound(at, density * width, math.sqrt(steps), may, bound * math.sqrt(seeds / looks[number - 1]))
        found.append(2 * float(ndtr(-bound / math.sqrt(seeds))))
        points = np.linspace(-bound, bound, _POINTS)
        if number == 0:
            density = _normal(points, math.sqrt(seeds))
        else:
            density = (_normal(points[:, None] - at[None, :], math.sqrt(steps)) * (density * width)[None, :]).sum(axis=1)
        density[[0, -1]] /= 2  # the trapezium rule's ends
        at = points
    return tuple(found)


def _bound(at: Floats, weights: Floats, sd: float, may: float, guess: float) -> float:
    """Beyond which the sum after one more step lies with the probability `may`, on both sides together."""
    from scipy.special import ndtr

    low, high = 0.0, 4 * guess
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        beyond = 2 * float((weights * ndtr((at - middle) / sd)).sum())  # symmetric, so one side twice
        low, high = (middle, high) if beyond > may else (low, middle)
    return high


def _normal(x: Floats, sd: float) -> Floats:
    return np.exp(-((x / sd) ** 2) / 2) / (sd * math.sqrt(2 * math.pi))


def p_of_looks(p_values: Sequence[float], looks: Sequence[int]) -> float:
    """The smallest overall level at which one of the looks so far, p-values in their order, was significant; at most 1.

    `looks` are all that there are to be, at their numbers of seeds. One look alone has its own p.
    """
    if len(looks) == 1:
        return min(p_values[0], 1.0)
    overall, bounds = _table(tuple(looks))
    each = [np.interp(math.log(max(p, _SMALLEST)), bounds[number], overall) for number, p in enumerate(p_values)]
    return min(math.exp(min(each)), 1.0)


@lru_cache(maxsize=64)
def _table(looks: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Logarithms of overall levels, and of each look's bound for them (looks, levels); 5 % and what Holm makes of it are among them."""
    overall = np.unique([*np.geomspace(_SMALLEST, 1.0, _LEVELS), *(0.05 / count for count in range(1, 11))])
    return np.log(overall), np.log([_levels(looks, float(level)) for level in overall]).T
