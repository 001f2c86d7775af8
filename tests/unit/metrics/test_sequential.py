"""Looking after every seed: the bounds against published ones, and false alarms of whole suites by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from fashion_ml.metrics.crossed import scatter_of_difference
from fashion_ml.metrics.sequential import levels, p_of_looks, spent
from fashion_ml.metrics.sign_flip import holm


def test_the_bounds_of_five_even_looks_are_the_published_ones():
    """Lan & DeMets' Pocock-type spending at 5 %, two-sided: 2.438, 2.427, 2.410, 2.397, 2.386 (Proschan, Lan & Wittes 2006, and ldbounds)."""
    bounds = [-stats.norm.ppf(p / 2) for p in levels((1, 2, 3, 4, 5))]
    assert bounds == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=0.002)


def test_one_look_alone_has_the_whole_level_and_its_own_p():
    assert levels((3,)) == pytest.approx((0.05,))
    assert p_of_looks([0.031], (3,)) == 0.031


def test_the_first_look_may_use_what_is_spent_by_then():
    """ln(1 + 1.718 / 2) = 0.620 of 5 % at half of the seeds."""
    assert spent(0.5) == pytest.approx(0.05 * 0.6201, abs=1e-5)
    assert levels((3, 4, 5, 6))[0] == pytest.approx(spent(0.5))
    assert spent(1.0) == pytest.approx(0.05)


def test_all_looks_together_stay_at_the_level_where_scores_grow_by_independent_steps():
    looks, rng = (3, 4, 5, 6), np.random.default_rng(0)
    sums = np.cumsum(rng.normal(0, 1, (200_000, 6)), axis=1)[:, [one - 1 for one in looks]]
    p_values = 2 * stats.norm.sf(np.abs(sums) / np.sqrt(looks))
    assert (p_values <= np.array(levels(looks))).any(axis=1).mean() == pytest.approx(0.05, abs=0.002)


def test_the_p_of_looks_is_below_a_level_exactly_where_a_look_was_significant_at_it():
    looks = (3, 4, 5)
    for number, level in itertools.product(range(3), (0.05, 0.025, 0.01)):
        just = levels(looks, level)[number]
        others = [1.0] * number
        assert p_of_looks([*others, just * 0.99], looks) < level
        assert p_of_looks([*others, just * 1.01], looks) > level
    assert p_of_looks([0.5, 0.001, 0.9], looks) == p_of_looks([0.5, 0.001], looks)  # what was shown stays shown


@pytest.mark.parametrize("looks", [(), (3, 3), (4, 3), (0, 1)])
def test_looks_that_do_not_ascend_are_refused(looks: tuple[int, ...]):
    with pytest.raises(ValueError, match="do not ascend"):
        levels(looks)


def p_values_of(rng: np.random.Generator, suites: int, recipes: int, looks: tuple[int, ...], sds: tuple[float, ...]):
    """Of recipes that are all the same: (looks, recipes without the baseline, suites), each look by the seeds that there are by then."""
    of_seeds, of_matches, noise = sds
    shape, most = (recipes + 1, suites), looks[-1]
    values = rng.normal(0, of_matches, (*shape, 1, 12)) + rng.normal(0, of_seeds, (*shape, most, 1))
    values = values + rng.normal(0, noise, (*shape, most, 12))
    found = np.empty((len(looks), recipes, suites))
    for number, seeds in enumerate(looks):
        first = values[0, :, :seeds]
        for recipe in range(recipes):
            second = values[recipe + 1, :, :seeds]
            mean = second.mean(axis=(1, 2)) - first.mean(axis=(1, 2))
            found[number, recipe] = scatter_of_difference(first, second).p(mean)
    return found


@pytest.mark.parametrize("sds", [(0.3, 0.3, 0.5), (0.02, 0.3, 0.5), (1.0, 0.1, 0.5), (0.0, 0.0, 1.0)])
@pytest.mark.parametrize(
    ("looks", "recipes"), [((3,), 1), ((3,), 3), ((3, 4), 2), ((3, 4, 5, 6), 1), ((3, 4, 5, 6), 3), ((3, 4, 5, 6, 7, 8), 2)]
)
def test_suites_of_equal_recipes_raise_a_false_alarm_in_at_most_6_percent(
    looks: tuple[int, ...], recipes: int, sds: tuple[float, ...]
):
    """Any of 1 to 3 recipes called other than the baseline at any look, after Holm; 3,000 suites have a standard error of 0.004."""
    found = p_values_of(np.random.default_rng(recipes + len(looks)), 3000, recipes, looks, sds)
    first_step = np.array(levels(looks, 0.05 / recipes))[:, None, None]  # of Holm: none other is tried before one has passed it
    assert (found <= first_step).any(axis=(0, 1)).mean() <= 0.06


def test_without_bounds_looking_after_every_seed_would_call_twice_as_many():
    """What the bounds are for."""
    found = p_values_of(np.random.default_rng(1), 3000, 1, (3, 4, 5, 6, 7, 8), (0.3, 0.1, 0.5))
    assert (found <= 0.05).any(axis=(0, 1)).mean() > 0.08


def test_holm_over_the_p_of_looks_rejects_first_what_passes_the_bounds_of_a_third_of_the_level():
    looks = (3, 4, 5)
    found = p_values_of(np.random.default_rng(2), 20, 3, looks, (0.3, 0.3, 0.5)) ** 2  # squared: some are significant
    for suite in range(20):
        p_of = {recipe: p_of_looks(found[:, recipe, suite].tolist(), looks) for recipe in range(3)}
        by_bounds = bool((found[:, :, suite] <= np.array(levels(looks, 0.05 / 3))[:, None]).any())
        assert (min(holm(p_of).values()) < 0.05) == by_bounds
