"""What an evaluation can see, against tables, textbooks and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fashion_ml.metrics.power import components, detectable, power, references_for


def test_what_can_be_seen_is_worked_out_from_the_tables_of_t():
    """n = 16: t(0.975, 15) = 2.1314, t(0.80, 15) = 0.8662; (2.1314 + 0.8662) x 2 / 4 = 1.4988."""
    assert detectable(2.0, 16) == pytest.approx(1.4988, abs=1e-4)


def test_a_difference_of_that_size_is_found_in_80_percent_of_simulated_evaluations():
    rng, n = np.random.default_rng(1), 20
    x = rng.normal(detectable(1.0, n), 1.0, (8000, n))
    t = x.mean(axis=1) / (x.std(axis=1, ddof=1) / math.sqrt(n))
    assert (t > 2.0930).mean() == pytest.approx(0.80, abs=0.02)  # t(0.975, 19)


def test_half_of_it_takes_the_fewest_references_that_see_it():
    half = detectable(1.0, 24) / 2
    n = references_for(half, 1.0)
    assert detectable(1.0, n) <= half < detectable(1.0, n - 1)
    assert 85 <= n <= 96  # about four times as many, fewer as t falls with n
    assert references_for(100.0, 1.0) == 6
    assert references_for(1e-9, 1.0) == 100_000


def test_variance_components_are_those_of_a_one_way_analysis_by_hand():
    """Means 1, 3, 5: variance 4. Within (0, 2), (2, 4), (4, 6): each 2 on 1 degree. Between 4 - 2 / 2 = 3."""
    found = components({"a": [0, 2], "b": [2, 4], "c": [4, 6]})
    assert (found.between, found.within) == pytest.approx((3.0, 2.0))
    assert found.sd(2) == pytest.approx(2.0)
    assert found.sd(1_000_000) == pytest.approx(math.sqrt(3), rel=1e-5)


def test_a_between_component_is_never_negative_and_one_image_has_no_within():
    assert components({"a": [-5, 5], "b": [-4, 4.2]}).between == 0
    assert components({"a": [1.0], "b": [2.0]}).within is None


def test_more_seeds_save_references_only_as_far_as_seeds_are_what_scatters():
    rng = np.random.default_rng(2)
    noisy = {i: (0.1 * rng.normal() + rng.normal(0, 1, 2)).tolist() for i in range(40)}
    steady = {i: (rng.normal() + rng.normal(0, 0.05, 2)).tolist() for i in range(40)}
    by_seeds, by_references = power(noisy), power(steady)
    assert by_seeds is not None
    assert by_references is not None
    assert by_seeds.for_half_more_seeds is not None
    assert by_references.for_half_more_seeds is not None
    assert by_seeds.for_half_more_seeds[0] < 0.5 * by_seeds.for_half
    assert by_references.for_half_more_seeds[0] > 0.9 * by_references.for_half


@pytest.mark.parametrize("values", [{}, {"a": [1.0, 2.0]}, {"a": [1.0], "b": [1.0]}])
def test_one_reference_and_equal_ones_have_no_power_to_speak_of(values: dict[str, list[float]]):
    assert power(values) is None
