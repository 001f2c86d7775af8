from __future__ import annotations

import numpy as np
import pytest

from fashion_ml.metrics.bootstrap import bootstrap_mean


def test_the_interval_covers_the_true_mean_in_93_to_97_percent_of_1000_trials():
    rng, covered = np.random.default_rng(7), 0
    for _ in range(1000):
        interval = bootstrap_mean(rng.normal(3, 2, 100).tolist(), resamples=1000)
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= 3 <= interval.high
    assert 930 <= covered <= 970


def test_the_paired_interval_is_narrower_than_the_unpaired_one_on_correlated_data():
    """Two models on the same references: what makes a reference hard is hard for both."""
    rng = np.random.default_rng(1)
    hard = rng.normal(0, 1, 60)
    first, second = hard + rng.normal(0, 0.2, 60), hard + 0.3 + rng.normal(0, 0.2, 60)
    paired = bootstrap_mean((second - first).tolist())
    draws = np.random.default_rng(0)
    unpaired = [draws.choice(second, 60).mean() - draws.choice(first, 60).mean() for _ in range(2000)]
    low, high = np.quantile(unpaired, [0.025, 0.975])
    assert paired.low is not None
    assert paired.high is not None
    assert paired.high - paired.low < 0.5 * (high - low)
    assert paired.low > 0 > low


def test_the_same_values_give_the_same_interval_and_none_are_an_error():
    assert bootstrap_mean([1.0, 2.0, 4.0]) == bootstrap_mean([1.0, 2.0, 4.0])
    with pytest.raises(ValueError, match="there are none"):
        bootstrap_mean([])
