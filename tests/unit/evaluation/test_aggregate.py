from __future__ import annotations

import math

import pandas as pd
import pytest

from fashion_ml.evaluation.aggregate import compare, headline, intervals, metrics_of, sentence, summarise
from fashion_ml.metrics.registry import LOSSES, PAIR_METRICS

NAMES = ["a", "a", "b", "b"]


def table(**columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame({metric: columns.get(metric, [0.5] * 4) for metric in PAIR_METRICS} | columns)


def test_seeds_are_averaged_first_and_gain_is_positive_where_the_lora_is_better():
    """Loss of base: references 0.6 and 0.8; of LoRA 0.3 and 0.4: gains 0.3 and 0.4, mean 0.35. ssim falls by 0.1: gain -0.1."""
    base = table(weighted_total_loss=[0.5, 0.7, 0.8, 0.8], ssim=[0.5] * 4)
    lora = table(weighted_total_loss=[0.2, 0.4, 0.4, 0.4], ssim=[0.4] * 4)
    scores = compare(base, lora, NAMES, resamples=500)
    total = scores["weighted_total_loss"]
    assert (total.base.mean, total.lora.mean, total.gain.mean) == pytest.approx((0.7, 0.35, 0.35))
    assert (total.gain.low, total.gain.high) == pytest.approx((0.3, 0.4))
    assert scores["ssim"].gain.mean == pytest.approx(-0.1)
    assert sentence(scores) == "LoRA lowers weighted_total_loss by 0.350 [0.300, 0.400] against the base model."


def test_the_sentence_says_when_it_is_worse_or_unproven():
    worse = compare(table(), table(weighted_total_loss=[0.6, 0.6, 0.7, 0.7]), NAMES, resamples=500)
    assert (
        sentence(worse) == "LoRA raises weighted_total_loss by 0.150 [0.100, 0.200] against the base model; the LoRA is worse."
    )
    open_end = compare(table(), table(weighted_total_loss=[0.6, 0.6, 0.2, 0.2]), NAMES, resamples=500)
    assert sentence(open_end).endswith(
        "0.100 [-0.100, 0.300] against the base model; the interval holds 0, so this is no proof either way."
    )


def test_headline_and_intervals_name_every_metric_three_ways():
    scores = compare(table(), table(), NAMES, resamples=50)
    expected = {f"{prefix}{metric}" for prefix in ("", "base_", "gain_") for metric in PAIR_METRICS}
    assert set(headline(scores)) == expected - {"gain_nearest_training_similarity"}  # neither way is better
    assert len(intervals(scores)) == 2 * len(headline(scores))


def test_one_reference_gives_means_and_no_interval():
    scores = compare(table(), table(weighted_total_loss=[0.4] * 4), ["a"] * 4, resamples=50)
    total = scores["weighted_total_loss"].gain
    assert (total.mean, total.low, total.high) == (pytest.approx(0.1), None, None)
    assert intervals(scores) == {}
    assert sentence(scores).startswith("LoRA lowers weighted_total_loss by 0.100 against the base model on one reference image")


def test_a_metric_that_was_not_measured_is_nowhere():
    """ciede2000 was measured for reference a in both, for b in the base only: b counts for nothing."""
    nan = math.nan
    base = table(ciede2000=[4.0, 6.0, 9.0, 9.0]).drop(columns=["lpips", "fashion_clip_loss", "weighted_total_loss"])
    lora = table(ciede2000=[1.0, nan, nan, nan], color_correlation_masked=[nan] * 4).drop(
        columns=["lpips", "fashion_clip_loss", "weighted_total_loss"]
    )
    scores = compare(base, lora, NAMES, resamples=50)
    difference = scores["ciede2000"]
    assert (difference.base.mean, difference.lora.mean) == (5.0, 1.0)
    assert difference.gain is not None
    assert (difference.gain.mean, difference.gain.low) == (4.0, None)
    assert not {"lpips", "fashion_clip_loss", "weighted_total_loss", "color_correlation_masked"} & set(headline(scores))
    assert "color_correlation_masked" not in metrics_of(lora)
    said = sentence(scores)
    assert said.startswith("LoRA lowers visual_loss by 0.000 [0.000, 0.000] and lowers color_loss by")
    assert said.endswith("against the base model; without FashionCLIP there is no weighted_total_loss.")


def test_one_side_alone_has_means_over_references_with_seeds_averaged_first():
    summary = summarise(table(weighted_total_loss=[0.2, 0.4, 0.6, 0.6]), NAMES, resamples=500)
    total = summary["weighted_total_loss"]
    assert (total.mean, total.low, total.high) == pytest.approx((0.45, 0.3, 0.6))
    assert set(LOSSES) <= set(summary)


def test_attribute_columns_are_metrics_of_which_more_is_better():
    scores = compare(table(attribute_kind=[0.0] * 4), table(attribute_kind=[1.0, 1.0, 1.0, 0.0]), NAMES, resamples=50)
    gain = scores["attribute_kind"].gain
    assert gain is not None
    assert gain.mean == 0.75
