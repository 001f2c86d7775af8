"""What two recipes can see is said from variances as the comparison itself says it from values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from fashion_ml.metrics.crossed import crossed_difference
from fashion_ml.metrics.power import sees_of_recipes


def test_what_is_seen_is_worked_out_by_hand():
    """0.01 between seeds, 0.03 between references, 3 x 12: 2 * 1e-4 / 3 + 9e-4 / 12 = 6.667e-5 + 7.5e-5 = 1.4167e-4. Satterthwaite's freedom
    1.4167e-4^2 / (6.667e-5^2 / 4 + 7.5e-5^2 / 11) = 12.37 has t = 2.172; Cochran & Cox's t is (6.667 * 2.776 + 7.5 * 2.201) / 14.167 = 2.472;
    their mean 2.322 is that of 8.2 degrees of freedom."""
    t = (stats.t.ppf(0.975, 12.37) + (6.667 * stats.t.ppf(0.975, 4) + 7.5 * stats.t.ppf(0.975, 11)) / 14.167) / 2
    assert t == pytest.approx(2.322, abs=1e-3)
    freedom = optimize.brentq(lambda one: stats.t.ppf(0.975, one) - t, 3, 30)
    size = optimize.brentq(lambda one: stats.nct.cdf(t, freedom, one) - 0.2, 0, 10)  # noncentral t
    assert size == pytest.approx(t + stats.t.ppf(0.8, freedom), rel=0.02)
    assert sees_of_recipes(0.01, 0.03, 3, 12) == pytest.approx(size * math.sqrt(1.41667e-4), rel=1e-3)


@pytest.mark.parametrize(("seed_sd", "reference_sd"), [(0.01, 0.03), (0.02, 0.01), (0.0, 0.02)])
def test_it_is_what_comparisons_of_such_recipes_can_see_in_the_median(seed_sd: float, reference_sd: float):
    draw = np.random.default_rng(0)
    found = []
    for _ in range(400):
        sides = [draw.normal(0, seed_sd, (3, 1)) + np.zeros((3, 12)) for _ in range(2)]
        sides[1] = sides[1] + draw.normal(0, reference_sd, 12)
        one = crossed_difference(*sides)
        assert one is not None
        found.append(one.sees)
    assert sees_of_recipes(seed_sd, reference_sd, 3, 12) == pytest.approx(float(np.median(found)), rel=0.15)


def test_a_difference_of_that_size_is_found_in_four_of_five_comparisons():
    draw, seen = np.random.default_rng(1), 0
    true = sees_of_recipes(0.01, 0.03, 3, 12)
    for _ in range(600):
        first = draw.normal(0, 0.01, (3, 1)) + np.zeros((3, 12))
        second = draw.normal(true, 0.01, (3, 1)) + draw.normal(0, 0.03, 12)
        one = crossed_difference(first, second)
        assert one is not None
        seen += one.p < 0.05
    assert 0.72 <= seen / 600 <= 0.88
