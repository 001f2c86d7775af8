import numpy as np
import pytest

from fashion_ml.metrics.bootstrap import bootstrap_mean
from fashion_ml.metrics.losses import similarity_to_loss, weighted_total

WEIGHTS = {"visual_loss": 0.2, "fashion_clip_loss": 0.6, "color_loss": 0.2}


@pytest.mark.parametrize(("similarity", "loss"), [(1.0, 0.0), (0.25, 0.75), (0.0, 1.0), (-0.4, 1.0), (1.0000001, 0.0)])
def test_a_loss_is_one_minus_the_clamped_similarity(similarity, loss):
    assert similarity_to_loss(similarity) == loss


def test_the_weighted_total_adds_up():
    # 0.2 * 0.5 + 0.6 * 0.25 + 0.2 * 1
    total = weighted_total({"visual_loss": 0.5, "fashion_clip_loss": 0.25, "color_loss": 1.0}, WEIGHTS)
    assert total == pytest.approx(0.45)


def test_the_interval_of_normal_data_is_close_to_the_textbook_one():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    interval = bootstrap_mean(values)
    half = 1.96 * values.std() / 20
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_interval_is_the_same_every_time():
    assert bootstrap_mean([1, 2, 4]) == bootstrap_mean([1, 2, 4])


def test_no_values_have_no_mean():
    with pytest.raises(ValueError, match="a mean needs at least one"):
        bootstrap_mean([])
