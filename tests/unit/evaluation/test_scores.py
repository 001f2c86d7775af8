from __future__ import annotations

import pandas as pd
import pytest

from fashion_ml.evaluation.scores import METRICS, compare, headline, intervals, sentence

NAMES = ["a", "a", "b", "b"]


def table(**columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame({metric: columns.get(metric, [0.5] * 4) for metric in METRICS})


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
    assert set(headline(scores)) == {f"{prefix}{metric}" for prefix in ("", "base_", "gain_") for metric in METRICS}
    assert len(intervals(scores)) == 2 * len(headline(scores))


def test_one_reference_gives_means_and_no_interval():
    scores = compare(table(), table(weighted_total_loss=[0.4] * 4), ["a"] * 4, resamples=50)
    total = scores["weighted_total_loss"].gain
    assert (total.mean, total.low, total.high) == (pytest.approx(0.1), None, None)
    assert intervals(scores) == {}
    assert sentence(scores).startswith("LoRA lowers weighted_total_loss by 0.100 against the base model on one reference image")
