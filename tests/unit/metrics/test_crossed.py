"""Two recipes over seeds and references: by hand, in the limits, and by simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fashion_ml.metrics.crossed import crossed_difference, crossed_mean, seeds_to_show, spread_of


def student(freedoms: tuple[float, float], parts: tuple[float, float]) -> float:
    """The mean of Satterthwaite's t and of Cochran & Cox's, of two parts of a variance (seeds, references)."""
    whole = sum(parts)
    satterthwaite = whole**2 / sum(part**2 / freedom for part, freedom in zip(parts, freedoms, strict=True))
    cochran = sum(part * stats.t.ppf(0.975, freedom) for part, freedom in zip(parts, freedoms, strict=True)) / whole
    return float(stats.t.ppf(0.975, satterthwaite) + cochran) / 2


def test_the_variance_is_worked_out_by_hand():
    """A: seeds (0, 2), (2, 4): means 1, 3, variance 2, over 2 seeds: 1. B: seeds (1, 1), (3, 7): means 1, 5, variance 8, over 2: 4.
    By reference A has 1, 3 and B 2, 4: differences 1, 1, variance 0, less the interaction, never below 0. So the variance is that of the seeds,
    5, with Welch's 5**2 / (1**2 / 3 + 4**2 / 3) - 2 = 2.4 degrees of freedom, of which 2 seeds a side have 2 at most."""
    found = crossed_difference(np.array([[0.0, 2.0], [2.0, 4.0]]), np.array([[1.0, 1.0], [3.0, 7.0]]))
    assert found is not None
    assert found.mean == 1.0
    assert found.freedom == pytest.approx(2)
    reach = stats.t.ppf(0.975, 2) * math.sqrt(5)
    assert (found.low, found.high) == pytest.approx((1 - reach, 1 + reach))
    assert found.p == pytest.approx(2 * stats.t.sf(1 / math.sqrt(5), 2))
    assert found.seed_sd == pytest.approx(math.sqrt((2 + 8) / 2))


def test_where_references_do_not_matter_it_is_welchs_t_test_over_seeds_with_the_degrees_of_freedom_of_1947():
    """Every reference alike: what varies is the seed alone. Variances 1 and 4 of the means, over 5 and 4 seeds."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 5), rng.normal(0.5, 2, 4)
    found = crossed_difference(np.repeat(a[:, None], 7, axis=1), np.repeat(b[:, None], 7, axis=1))
    reference = stats.ttest_ind(b, a, equal_var=False)
    one, other = a.var(ddof=1) / 5, b.var(ddof=1) / 4
    freedom = (one + other) ** 2 / (one**2 / 6 + other**2 / 5) - 2
    assert found is not None
    assert found.p == pytest.approx(2 * stats.t.sf(abs(reference.statistic), freedom))
    assert found.p == pytest.approx(reference.pvalue, abs=0.01)  # Satterthwaite's differ by a fraction


def test_where_seeds_do_not_matter_it_is_the_paired_t_test_over_references():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, 9), rng.normal(0.5, 1, 9)
    found = crossed_difference(np.tile(a, (3, 1)), np.tile(b, (3, 1)))
    assert found is not None
    assert found.p == pytest.approx(stats.ttest_rel(b, a).pvalue)
    assert found.freedom == pytest.approx(8)


def test_references_alone_would_call_two_seeds_of_one_recipe_different():
    """The seed moves every reference by the same amount: paired over references p is tiny, over seeds and references it is not."""
    rng, hard = np.random.default_rng(4), np.random.default_rng(5).normal(0, 1, 24)
    a, b = (hard + rng.normal(0, 0.5, (3, 1)) + rng.normal(0, 0.1, (3, 24)) for _ in range(2))
    found = crossed_difference(a, b)
    assert found is not None
    assert stats.ttest_rel(b.mean(axis=0), a.mean(axis=0)).pvalue < 1e-4
    assert found.p > 0.05


def test_where_nothing_varies_there_is_nothing_to_say():
    assert crossed_difference(np.zeros((3, 6)), np.ones((3, 6))) is None


def test_what_seed_and_reference_share_is_counted_once():
    """A: seeds (0, 2), (4, 8): means 1, 6, variance 12.5, over 2 seeds 6.25. B is 0, so differences are -2, -5, variance 4.5, over 2 references
    2.25. Residuals of A are 0.5, mean square 1, over 2 seeds and 2 references 0.25: the variance is 6.25 + 2.25 - 0.25 = 8.25."""
    found = crossed_difference(np.array([[0.0, 2.0], [4.0, 8.0]]), np.zeros((2, 2)))
    assert found is not None
    reach = student((1, 1), (6.25, 2.0)) * math.sqrt(8.25)
    assert found.mean == -3.5
    assert (found.low, found.high) == pytest.approx((-3.5 - reach, -3.5 + reach))


def test_the_interval_of_one_recipe_is_students_over_seeds_where_references_are_alike_and_over_references_where_seeds_are():
    rng = np.random.default_rng(2)
    seeds, references = rng.normal(0.5, 1, 4), rng.normal(0.5, 1, 9)
    by_seed = crossed_mean(np.repeat(seeds[:, None], 7, axis=1))
    by_reference = crossed_mean(np.tile(references, (3, 1)))
    assert by_seed.ends == pytest.approx(stats.t.interval(0.95, 3, seeds.mean(), stats.sem(seeds)))
    assert by_reference.ends == pytest.approx(stats.t.interval(0.95, 8, references.mean(), stats.sem(references)))
    assert (by_seed.n, by_reference.n) == (7, 9)


def test_one_seed_and_equal_values_have_a_mean_and_no_interval():
    assert crossed_mean(np.array([[1.0, 3.0]])).ends is None
    assert crossed_mean(np.full((3, 6), 2.0)).ends is None
    assert crossed_mean(np.full((3, 6), 2.0)).mean == 2.0


def test_the_parts_of_the_spread_are_found_again():
    """400 recipes of 4 seeds on 300 references, scattering by 0.3 (recipe), 0.2 (seed), 0.5 (reference), 0.1 (match), 0.4 (the rest)."""
    rng = np.random.default_rng(6)
    hard = rng.normal(0, 0.5, 300)
    recipes = [
        rng.normal(0, 0.3) + hard + rng.normal(0, 0.1, 300) + rng.normal(0, 0.2, (4, 1)) + rng.normal(0, 0.4, (4, 300))
        for _ in range(400)
    ]
    found = spread_of(recipes)
    sds = [math.sqrt(one) for one in (found.recipes, found.seeds, found.references, found.matches, found.rest)]
    assert sds == pytest.approx([0.3, 0.2, 0.5, 0.1, 0.4], rel=0.1)
    assert found.seed_sd == pytest.approx(math.sqrt(0.2**2 + 0.4**2 / 300), rel=0.05)
    assert sum(found.shares().values()) == pytest.approx(1)


def test_the_spread_of_two_recipes_is_worked_out_by_hand():
    """A: seeds (0, 2), (2, 4): means 1 and 3; B: the same and 5 more. Seeds: variance 2. No interaction. By reference 1 and 3, 6 and 8:
    variance 2 of references; recipes' means 2 and 7: variance 12.5, less the seeds' 2 / 2."""
    first = np.array([[0.0, 2.0], [2.0, 4.0]])
    found = spread_of([first, first + 5])
    assert (found.seeds, found.references, found.recipes) == pytest.approx((2, 2, 11.5))
    assert (found.matches, found.rest) == pytest.approx((0, 0))
    assert (found.seed_sd, found.apart) == pytest.approx((math.sqrt(2), 5))


def test_so_many_seeds_show_the_difference_in_80_percent_of_simulated_comparisons():
    """Measured with 400 seeds, so that what scatters is known; the number that it names is then tried out."""
    rng = np.random.default_rng(7)

    def recipe(seeds: int, gain: float) -> np.ndarray:
        return gain + rng.normal(0, 0.5, (seeds, 1)) + rng.normal(0, 0.3, (seeds, 12))

    count = seeds_to_show(0.5, recipe(400, 0.0), recipe(400, 0.5))
    assert count is not None
    p_values = [found.p for _ in range(400) if (found := crossed_difference(recipe(count, 0.0), recipe(count, 0.5)))]
    assert np.mean([p < 0.05 for p in p_values]) == pytest.approx(0.8, abs=0.07)


def test_no_number_of_seeds_shows_what_the_references_hide():
    rng = np.random.default_rng(8)
    match = rng.normal(0, 1, 12)
    first, second = rng.normal(0, 0.1, (3, 12)), match + rng.normal(0, 0.1, (3, 12))
    assert seeds_to_show(0.2, first, second) is None
    assert seeds_to_show(0.0, first, second) is None
    assert seeds_to_show(5.0, first, second) == 3
