"""Intervals cover what they say, on data of several shapes and few values; where there can be none there is none."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fashion_ml.metrics.bootstrap import bootstrap_mean, bootstrap_t

Floats = NDArray[np.float64]
TRIALS = 6000
"""Standard error of a coverage of 0.95: 0.0028, of 0.90: 0.0039."""
CENTRED: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "normal": lambda rng, n: rng.standard_normal((TRIALS, n)),
    "t3": lambda rng, n: rng.standard_t(3, (TRIALS, n)),
    "lognormal": lambda rng, n: rng.lognormal(0, 1, (TRIALS, n)) - math.exp(0.5),
}
"""Distributions whose mean is 0."""
BOUNDS = {"normal": (0.93, 0.97), "t3": (0.93, 0.97), "lognormal": (0.90, 0.97)}


@pytest.mark.parametrize("n", [6, 8, 12, 24, 32])
@pytest.mark.parametrize("shape", CENTRED)
def test_the_interval_covers_the_true_mean_as_often_as_it_says(shape: str, n: int):
    low, high = bootstrap_t(CENTRED[shape](np.random.default_rng(n), n))
    coverage = float(((low <= 0) & (high >= 0)).mean())
    least, most = BOUNDS[shape]
    assert least <= coverage <= most, coverage


def test_many_samples_at_once_have_the_intervals_of_each_alone():
    samples = np.random.default_rng(5).normal(2, 1, (3, 9))
    low, high = bootstrap_t(samples)
    for row, ends in zip(samples, zip(low, high, strict=True), strict=True):
        assert bootstrap_mean(row.tolist()).ends == pytest.approx(ends)


def test_skewed_values_have_the_longer_arm_on_the_side_of_the_tail():
    interval = bootstrap_mean([1, 1.1, 1.2, 1.3, 1.5, 1.8, 2.5, 6])
    assert interval.ends is not None
    assert interval.ends[1] - interval.mean > 2 * (interval.mean - interval.ends[0])


def test_of_six_values_every_resample_counts_with_its_probability_and_none_is_drawn():
    """462 multisets of six of six values, the one with each value once in 720 of 46,656 ways."""
    values = [0.3, 0.1, 0.4, 0.15, 0.92, 0.65]
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=2)
    ours = bootstrap_mean(values).ends
    assert ours is not None
    data = np.array(values)
    drawn = data[np.random.default_rng(0).integers(0, 6, (400_000, 6))]
    sd = drawn.std(axis=1)
    t = (drawn[sd > 0].mean(axis=1) - data.mean()) / sd[sd > 0]
    share = (0.72 - 0.4 / 6) * 0.05 / 2
    high, low = (data.mean() - end for end in ours)  # the t of the ends, in units of the values
    for beyond, reached in (
        (t > high / data.std() + 1e-9, t > high / data.std() - 1e-9),
        (t < low / data.std() - 1e-9, t < low / data.std() + 1e-9),
    ):
        assert beyond.mean() - 0.001 <= share <= reached.mean() + 0.001


@pytest.mark.parametrize("values", [[1.0], [1, 2, 3, 4, 5], [0.3] * 8, [0.1 + 0.2, 0.3] * 4, [0.0] * 6])
def test_fewer_than_six_values_and_equal_ones_have_a_mean_and_no_interval(values: list[float]):
    interval = bootstrap_mean(values)
    assert interval.mean == pytest.approx(np.mean(values))
    assert interval.ends is None
    assert interval.n == len(values)


def test_where_resamples_of_one_value_reach_an_end_the_interval_is_students():
    """Five 0 and one 1: a third of the resamples hold 0 alone. Mean 1/6, standard error 1/6, t(0.975, 5) = 2.5706 (tables)."""
    interval = bootstrap_mean([0, 0, 0, 1, 0, 0])
    assert interval.ends == pytest.approx((1 / 6 - 2.5706 / 6, 1 / 6 + 2.5706 / 6), abs=1e-4)
    for ones in range(1, 24):
        ends = bootstrap_mean([1.0] * ones + [0.0] * (24 - ones)).ends
        assert ends is not None
        assert np.isfinite(ends).all()


def test_scale_and_shift_move_the_interval_along_and_seeds_hardly():
    values = np.random.default_rng(2).normal(0, 1, 20)
    low, high = bootstrap_mean(values.tolist()).ends or (math.nan, math.nan)
    moved = bootstrap_mean((1e-6 * values + 3).tolist()).ends
    assert moved == pytest.approx((1e-6 * low + 3, 1e-6 * high + 3), abs=1e-10)
    assert bootstrap_mean(values.tolist(), seed=1).ends == pytest.approx((low, high), abs=0.1)


def test_the_paired_interval_is_narrower_than_the_unpaired_one_on_correlated_data():
    """Two models on the same references: what makes a reference hard is hard for both."""
    rng = np.random.default_rng(1)
    hard = rng.normal(0, 1, 60)
    first, second = hard + rng.normal(0, 0.2, 60), hard + 0.3 + rng.normal(0, 0.2, 60)
    paired = bootstrap_mean((second - first).tolist())
    draws = np.random.default_rng(0)
    unpaired = [draws.choice(second, 60).mean() - draws.choice(first, 60).mean() for _ in range(2000)]
    low, high = np.quantile(unpaired, [0.025, 0.975])
    assert paired.ends is not None
    assert paired.ends[1] - paired.ends[0] < 0.5 * (high - low)
    assert paired.ends[0] > 0 > low


def test_the_same_values_give_the_same_interval_and_none_are_an_error():
    values = [1.0, 2.0, 4.0, 3.0, 7.0, 5.5, 2.5, 2.1]
    assert bootstrap_mean(values) == bootstrap_mean(values)
    with pytest.raises(ValueError, match="there are none"):
        bootstrap_mean([])


def test_an_interval_does_not_reach_where_no_mean_can_be():
    """24 references of which one has another label: the bootstrap-t reaches beyond a share of 1."""
    share = bootstrap_mean([1.0] * 22 + [0.5, 0.0])
    assert share.high is not None
    assert share.high > 1
    inside = share.within(0, 1)
    assert (inside.mean, inside.low, inside.high) == (share.mean, share.low, 1.0)
    assert bootstrap_mean([0.5] * 3).within(0, 1).ends is None
    assert bootstrap_mean([0.1, 0.2, 0.3, 0.2, 0.1, 0.3]).within(-1, 1) == bootstrap_mean([0.1, 0.2, 0.3, 0.2, 0.1, 0.3])
