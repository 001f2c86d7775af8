"""p of a mean against scipy's permutation test and by hand; several at once after Holm."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fashion_ml.metrics.sign_flip import holm, sign_flip_p


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([0.1] * 6, 2 / 64),  # all of one sign: only this pattern and its mirror image are as far
        ([0.1, 0.2, 0.3, 0.4, 0.5], 2 / 32),
        ([1, 1, 1, 1, 1, -1], 14 / 64),  # |sum| >= 4: none or one of either sign turned, 2 x (1 + 6)
        ([3, 1, -1], 1.0),  # sums 3, 5, 1, 3 and their mirrors: |sum| >= 3 in 6 of 8; see below
        ([1, -1], 1.0),
        ([0.0, 0.0, 0.0], 1.0),
        ([2.0], 1.0),
    ],
)
def test_p_is_the_share_of_sign_patterns_as_far_from_0(values: list[float], p: float):
    expected = 6 / 8 if values == [3, 1, -1] else p
    assert sign_flip_p(values) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [6, 9, 12])
def test_it_is_scipys_exact_permutation_test(n: int, seed: int):
    values = np.random.default_rng(seed).normal(0.4, 1, n)
    reference = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip_p(values.tolist()) == pytest.approx(reference.pvalue)


def test_ties_that_differ_by_rounding_count_and_zeros_change_nothing():
    """0.1 + 0.2 - 0.3 is not 0 in floating point; each of these patterns has a mirror image that is as far."""
    values = [0.1, 0.2, -0.3, 0.3, 0.4, 0.7]
    whole = [1, 2, -3, 3, 4, 7]
    assert sign_flip_p(values) == sign_flip_p(whole)
    assert sign_flip_p([*whole, 0, 0, 0]) == sign_flip_p(whole)
    assert sign_flip_p([-value for value in values]) == sign_flip_p(values)


def test_more_than_fourteen_values_are_drawn_near_the_exact_p_and_never_0():
    """15 values, 32,768 patterns: 20,000 draws have a standard error of at most 0.0035."""
    values = np.random.default_rng(3).normal(0.3, 1, 15)
    exact = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip_p(values.tolist()) == pytest.approx(exact, abs=0.012)
    assert sign_flip_p(values.tolist()) == sign_flip_p(values.tolist())
    assert sign_flip_p([1.0] * 40) == pytest.approx(1 / 20_001)


def test_fourteen_values_are_tried_in_full_whatever_the_seed():
    values = np.random.default_rng(4).normal(0.3, 1, 14).tolist()
    assert sign_flip_p(values, seed=1) == sign_flip_p(values, seed=2)
    assert (sign_flip_p(values) * 2**14) % 1 == pytest.approx(0, abs=1e-9)


def test_under_no_difference_p_is_below_5_percent_at_most_5_percent_of_the_time():
    rng = np.random.default_rng(6)
    below = np.mean([sign_flip_p(rng.standard_t(3, 7)) < 0.05 for _ in range(1500)])
    assert below <= 0.05 + 3 * 0.0056


def test_no_values_are_an_error():
    with pytest.raises(ValueError, match="there are none"):
        sign_flip_p([])


def test_holm_multiplies_the_smallest_by_their_number_and_never_goes_down():
    """0.01 x 3 = 0.03, 0.04 x 2 = 0.08, 0.03 x 2 = 0.06 comes second: 0.03, 0.06, max(0.06, 0.04) = 0.06."""
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert list(holm({"b": 0.9, "a": 0.6})) == ["b", "a"]
    assert holm({}) == {}
