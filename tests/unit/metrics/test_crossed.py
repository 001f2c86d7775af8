"""Two recipes over seeds and references: by hand, in the limits, and by simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fashion_ml.metrics.crossed import crossed_difference


def test_the_variance_is_worked_out_by_hand():
    """A: seeds (0, 2), (2, 4): means 1, 3, variance 2, over 2 seeds: 1. B: seeds (1, 1), (3, 7): means 1, 5, variance 8, over 2: 4.
    By reference A has 1, 3 and B 2, 4: differences 1, 1, variance 0. Interaction of A 0; of B: residuals 1, -1, -1, 1, mean square 4, over
    2 seeds and 2 references: 1. So 5 + 0 - 1 = 4, but never below that of the seeds, 5."""
    found = crossed_difference(np.array([[0.0, 2.0], [2.0, 4.0]]), np.array([[1.0, 1.0], [3.0, 7.0]]))
    assert found is not None
    freedom = 5**2 / (1**2 / 1 + 4**2 / 1 + 0 + 1**2 / 1)
    assert found.mean == 1.0
    assert found.freedom == pytest.approx(freedom)
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(5)
    assert (found.low, found.high) == pytest.approx((1 - reach, 1 + reach))
    assert found.p == pytest.approx(2 * stats.t.sf(1 / math.sqrt(5), freedom))
    assert found.seed_sd == pytest.approx(math.sqrt((2 + 8) / 2))


def test_where_references_do_not_matter_it_is_welchs_t_test_over_seeds():
    """Every reference alike: what varies is the seed alone."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 5), rng.normal(0.5, 2, 4)
    found = crossed_difference(np.repeat(a[:, None], 7, axis=1), np.repeat(b[:, None], 7, axis=1))
    reference = stats.ttest_ind(b, a, equal_var=False)
    assert found is not None
    assert found.p == pytest.approx(reference.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(reference.confidence_interval()))


def test_where_seeds_do_not_matter_it_is_the_paired_t_test_over_references():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, 9), rng.normal(0.5, 1, 9)
    found = crossed_difference(np.tile(a, (3, 1)), np.tile(b, (3, 1)))
    assert found is not None
    assert found.p == pytest.approx(stats.ttest_rel(b, a).pvalue)
    assert found.freedom == pytest.approx(8)


@pytest.mark.parametrize("seed_sd", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("seeds", [3, 5])
def test_its_interval_covers_no_difference_in_95_percent_whatever_scatters(seeds: int, seed_sd: float):
    """Seeds, references, what a recipe does to a reference, and images scatter; 1,200 trials have a standard error of 0.006."""
    rng, covered, trials, references = np.random.default_rng(seeds), 0, 1200, 12

    def recipe(hard: np.ndarray) -> np.ndarray:
        own = hard + rng.normal(0, 0.7, references)
        return own + rng.normal(0, seed_sd, (seeds, 1)) + rng.normal(0, 1, (seeds, references))

    for _ in range(trials):
        hard = rng.normal(0, 2, references)
        found = crossed_difference(recipe(hard), recipe(hard))
        assert found is not None
        covered += found.low <= 0 <= found.high
    assert 0.93 <= covered / trials <= 0.985


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
    freedom = 8.25**2 / (6.25**2 + 2.25**2 + 0.25**2)
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(8.25)
    assert (found.mean, found.freedom) == (-3.5, pytest.approx(freedom))
    assert (found.low, found.high) == pytest.approx((-3.5 - reach, -3.5 + reach))
