"""The metrics of whole sets of images, of the LoRA, of the base, and what is gained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.evaluation.sets import measure_sets
from fashion_ml.metrics.registry import METRICS

X, Y = [1.0, 0.0], [0.0, 1.0]


def rows(*given: list[float]) -> torch.Tensor:
    return torch.tensor(given)


@pytest.fixture
def suite() -> MetricSuite:
    return MetricSuite(encoder=None, weights={}, metrics=tuple(metric for metric in METRICS if metric.name == "kid"))


def test_a_lora_nearer_to_the_references_than_its_base_gains_in_kid(suite: MetricSuite):
    """The kernel is (1 + 1)^3 = 8 of equal directions and (0 + 1)^3 = 1 of right angles: the base, at right angles to both references, is at
    8 + 8 − 2 · 1 = 14, and the LoRA, one image of each direction, at 1 + 8 − 2 · 4.5 = 0. Of two references there is no interval."""
    better, worse, references, captions = rows(X, Y), rows(Y, Y), rows(X, X), ["a", "b"]
    found = measure_sets(suite, {"LoRA": better, "base": worse}, references, [0, 1], captions, 100)
    assert {name: interval.mean for name, interval in found.items()} == {"kid": 0.0, "base_kid": 14.0, "gain_kid": 14.0}
    assert all(interval.ends is None for interval in found.values())
    turned = measure_sets(suite, {"LoRA": worse, "base": better}, references, [0, 1], captions, 100)
    assert {name: interval.mean for name, interval in turned.items()} == {"kid": 14.0, "base_kid": 0.0, "gain_kid": -14.0}


def test_of_one_side_there_is_no_gain(suite: MetricSuite):
    found = measure_sets(suite, {"generated": rows(X, Y)}, rows(X, X), [0, 1], ["a", "b"], 100)
    assert {name: interval.mean for name, interval in found.items()} == {"kid": 0.0}


def test_the_intervals_are_over_references_and_hold_the_value(suite: MetricSuite):
    draw = torch.Generator().manual_seed(0)
    references, lora, base = (
        torch.nn.functional.normalize(torch.randn(12, 4, generator=draw) + shift, dim=1) for shift in (1, 1, 0)
    )
    captions = [str(number) for number in range(12)]
    found = measure_sets(suite, {"LoRA": lora, "base": base}, references, range(12), captions, 500)
    for name, interval in found.items():
        assert interval.ends is not None, name
        assert interval.ends[0] < interval.mean < interval.ends[1], name
    again = measure_sets(suite, {"LoRA": lora, "base": base}, references, range(12), captions, 500)
    assert found == again


def test_nothing_is_said_where_a_side_cannot_be_measured(suite: MetricSuite):
    good, captions = rows(X, Y), ["a", "b"]
    assert measure_sets(suite, {"LoRA": good, "base": None}, good, [0, 1], captions, 10) == {}
    assert measure_sets(suite, {"LoRA": good, "base": good}, None, [0, 1], captions, 10) == {}
    assert (
        measure_sets(suite, {"LoRA": good, "base": good}, good, [0, 1], ["one", "one"], 10) == {}
    )  # no pair of other captions


def test_its_intervals_hold_95_percent_of_what_other_references_would_give(suite: MetricSuite):
    """Against a bootstrap by hand: references drawn with replacement, of each draw the means of the kernel over pairs of different ones."""
    draw = torch.Generator().manual_seed(1)
    references, made = (torch.nn.functional.normalize(torch.randn(10, 4, generator=draw), dim=1).double() for _ in range(2))
    kernel = [((a @ b.T + 1) ** 3).numpy() for a, b in ((made, made), (references, references), (made, references))]
    rng, values = np.random.default_rng(7), []
    for _ in range(4000):
        drawn = rng.integers(0, 10, 10)
        apart = drawn[:, None] != drawn[None]
        of_made, of_references, across = (one[np.ix_(drawn, drawn)][apart].mean() for one in kernel)
        values.append(of_made + of_references - 2 * across)
    low, high = np.quantile(values, [0.025, 0.975])
    ends = measure_sets(suite, {"LoRA": made}, references, range(10), [str(one) for one in range(10)], 4000)["kid"].ends
    assert ends == pytest.approx((low, high), abs=0.06 * (high - low))
