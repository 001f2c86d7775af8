"""The metrics of whole sets of images, of the LoRA, of the base, and what is gained."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from PIL import Image

from fashion_ml.evaluation.lora import BASE, MAIN, _sets
from fashion_ml.evaluation.measure import Arm, MetricSuite
from fashion_ml.metrics.picture import Picture
from fashion_ml.metrics.registry import METRICS

X, Y = [1.0, 0.0], [0.0, 1.0]


def arm(*rows: list[float]) -> Arm:
    return Arm(pd.DataFrame(), torch.tensor(rows) if rows else None)


@pytest.fixture
def suite() -> MetricSuite:
    return MetricSuite(encoder=None, weights={}, metrics=tuple(metric for metric in METRICS if metric.name == "kid"))


@pytest.fixture
def references() -> list[Picture]:
    return [Picture(Image.new("RGB", (8, 8)), torch.tensor(X), None, None) for _ in range(2)]


def test_a_lora_nearer_to_the_references_than_its_base_gains_in_kid(suite: MetricSuite, references: list[Picture]):
    """The kernel is (1 + 1)^3 = 8 of equal directions and (0 + 1)^3 = 1 of right angles, so that the base is at 8 + 8 − 2 · 1 = 14,
    the LoRA, one image of each direction, at 1 + 8 − 2 · 4.5 = 0."""
    better, worse = arm(X, Y), arm(Y, Y)
    assert _sets(suite, {MAIN: better, BASE: worse}, references) == {"kid": 0.0, "base_kid": 14.0, "gain_kid": 14.0}
    assert _sets(suite, {MAIN: worse, BASE: better}, references) == {"kid": 14.0, "base_kid": 0.0, "gain_kid": -14.0}


def test_nothing_is_said_where_a_side_cannot_be_measured(suite: MetricSuite, references: list[Picture]):
    assert _sets(suite, {MAIN: arm(X, Y), BASE: arm(X)}, references) == {}
    assert _sets(suite, {MAIN: arm(), BASE: arm(X, Y)}, references) == {}
    assert _sets(suite, {MAIN: arm(X, Y), BASE: arm(X, Y)}, []) == {}
