"""From rows to means, intervals, verdicts and words."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from fashion_ml.evaluation.aggregate import (
    Comparison,
    compare,
    comparison_rows,
    headline,
    intervals,
    metrics_of,
    summarise,
    summary,
    table_names,
    to_dict,
)
from fashion_ml.evaluation.findings import of_lora
from fashion_ml.evaluation.three_lines import three_lines
from fashion_ml.metrics.bootstrap import bootstrap_mean
from fashion_ml.metrics.registry import LOSSES, PAIR_METRICS

NAMES = ["a", "a", "b", "b"]
EIGHT = [name for name in "abcdefgh" for _ in range(2)]
STEPS = [0.1, 0.12, 0.08, 0.11, 0.09, 0.13, 0.07, 0.1]
"""Gains of eight references: all above 0."""


HEADS = {"better": "Better: ", "worse": "Worse: ", "not shown": "Neither better nor worse is shown: "}


def sentence(scores: dict[str, Comparison]) -> str:
    return three_lines(of_lora(scores, {}, {}), "en")


def table(rows: int = 4, **columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame({metric: columns.get(metric, [0.5] * rows) for metric in PAIR_METRICS} | columns)


def eight(**gains: list[float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Base with 0.5 everywhere, and a LoRA whose losses are lower by these gains, two images a reference."""
    twice = {name: [0.5 - value for value in values for _ in range(2)] for name, values in gains.items()}
    return table(16), table(16, **twice)


def test_seeds_are_averaged_first_and_gain_is_positive_where_the_lora_is_better():
    """Loss of base: references 0.6 and 0.8; of LoRA 0.3 and 0.4: gains 0.3 and 0.4, mean 0.35. ssim falls by 0.1: gain -0.1."""
    base = table(weighted_total_loss=[0.5, 0.7, 0.8, 0.8], ssim=[0.5] * 4)
    lora = table(weighted_total_loss=[0.2, 0.4, 0.4, 0.4], ssim=[0.4] * 4)
    scores = compare(base, lora, NAMES, resamples=500)
    total = scores["weighted_total_loss"]
    assert (total.base.mean, total.lora.mean, total.gain.mean) == pytest.approx((0.7, 0.35, 0.35))
    assert scores["ssim"].gain.mean == pytest.approx(-0.1)


def test_gains_of_one_sign_over_eight_references_are_better_and_their_mirror_is_worse():
    """p: 2 of 256 patterns."""
    better = compare(*eight(weighted_total_loss=STEPS), EIGHT, resamples=2000)["weighted_total_loss"]
    worse = compare(*eight(weighted_total_loss=[-x for x in STEPS]), EIGHT, resamples=2000)["weighted_total_loss"]
    assert (better.p, better.verdict, worse.verdict) == (pytest.approx(2 / 256), "better", "worse")
    assert better.gain.ends == pytest.approx(bootstrap_mean(STEPS).ends)
    assert worse.gain.ends == pytest.approx((-better.gain.ends[1], -better.gain.ends[0]), abs=0.01)


def test_the_sentence_names_this_lora_its_verdict_and_what_it_cannot_say():
    scores = compare(*eight(weighted_total_loss=STEPS, color_loss=[-x for x in STEPS]), EIGHT, resamples=2000)
    low, high = scores["weighted_total_loss"].gain.ends
    first, _, last = sentence(scores).split("\n")
    assert first.startswith(
        f"Better: this LoRA lowers weighted_total_loss by 0.100 [{low:.3f}, {high:.3f}] against the base model."
    )
    assert "visual_loss +0.000 (not shown" in first
    assert "color_loss -0.100 (worse" in first
    assert last.endswith("One training says nothing of its recipe.")
    _, _, last = sentence(compare(*eight(weighted_total_loss=[x - 0.09 for x in STEPS]), EIGHT, resamples=500)).split("\n")
    assert last.startswith("A difference in weighted_total_loss below 0.0")
    assert "references with 2 seeds each" in last


def test_the_sentence_and_the_table_have_one_sign():
    for gains in (STEPS, [-x for x in STEPS], [x - 0.09 for x in STEPS], [0.11 - x for x in STEPS]):
        base, lora = eight(weighted_total_loss=gains)
        scores = compare(base, lora, EIGHT, resamples=500)
        cells = {name: cells for name, _, cells in comparison_rows(lora, scores, EIGHT)}
        up = cells["weighted_total_loss"][2].startswith("+")
        assert ("this LoRA lowers" if up else "this LoRA raises") in sentence(scores)
        assert up == (np.mean(gains) > 0)
        assert cells["weighted_total_loss"][3] == scores["weighted_total_loss"].verdict
        assert sentence(scores).startswith(HEADS[scores["weighted_total_loss"].verdict])


def test_below_six_references_there_is_no_interval_and_no_verdict_and_the_sentence_says_why():
    five = [name for name in "abcde" for _ in range(2)]
    base, lora = table(10), table(10, weighted_total_loss=[0.4 - 0.01 * (i // 2) for i in range(10)])
    scores = compare(base, lora, five, resamples=500)
    total = scores["weighted_total_loss"]
    assert (total.gain.ends, total.p, total.verdict) == (None, None, "")
    assert intervals(scores) == {}
    first, _, last = sentence(scores).split("\n")
    assert first.startswith(
        "No verdict (line 3 says why): this LoRA lowers weighted_total_loss by 0.120 against the base model."
    )
    assert last.startswith("No verdict: 5 references are fewer than 6, with which no test can reach p < 0.05.")
    alone = compare(table(), table(weighted_total_loss=[0.4] * 4), ["a"] * 4, resamples=50)
    assert (alone["weighted_total_loss"].gain.low, alone["weighted_total_loss"].power) == (None, None)
    assert "No verdict: one reference is fewer than 6" in sentence(alone)


def test_only_the_primary_metric_and_its_parts_have_verdict_words_and_parts_are_corrected_for_being_three():
    gains = dict.fromkeys((*LOSSES, "ciede2000", "lpips"), STEPS)
    scores = compare(*eight(**gains), EIGHT, resamples=500)
    assert {name for name, one in scores.items() if one.verdict} == set(LOSSES)
    assert scores["weighted_total_loss"].p == pytest.approx(2 / 256)
    assert scores["visual_loss"].p == pytest.approx(3 * 2 / 256)
    assert scores["ciede2000"].gain.ends is not None
    assert scores["ciede2000"].p is None
    some = [0.1, 0.11, 0.12, 0.13, 0.14, 0.15, 0.01, -0.02]  # p 4 / 256 x 3 = 0.047 would do; 6 / 256 x 3 does not
    less = [*some[:6], -0.02, -0.01]
    scores = compare(*eight(visual_loss=less, weighted_total_loss=less), EIGHT, resamples=2000)
    assert scores["visual_loss"].p > 0.05
    assert scores["visual_loss"].verdict == "not shown"


def test_what_cannot_be_read_has_no_verdict_whatever_its_numbers():
    why = {"weighted_total_loss": "the encoder cannot read these pictures"}
    scores = compare(*eight(weighted_total_loss=STEPS, visual_loss=STEPS), EIGHT, resamples=500, no_verdict=why)
    assert (scores["weighted_total_loss"].verdict, scores["visual_loss"].verdict) == ("", "better")
    assert sentence(scores).startswith("This LoRA lowers weighted_total_loss by 0.100 ")
    assert "Nearer: visual_loss +0.100 (better), fashion_clip_loss +0.000 (not shown)" in sentence(scores)


def test_headline_and_intervals_name_every_metric_three_ways():
    base, lora = eight(**dict.fromkeys(PAIR_METRICS, STEPS))
    scores = compare(base, lora, EIGHT, resamples=50)
    expected = {f"{prefix}{metric}" for prefix in ("", "base_", "gain_") for metric in PAIR_METRICS}
    assert set(headline(scores)) == expected - {"gain_nearest_training_similarity", "gain_memorised"}  # neither way is better
    ends = {name for name in headline(scores) if not name.startswith("base_")}  # the base is 0.5 everywhere: no interval
    assert set(intervals(scores)) == {f"{name}_{end}" for name in ends for end in ("low", "high")}


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
    assert (difference.gain.mean, difference.gain.low, difference.gain.n) == (4.0, None, 1)
    assert not {"lpips", "fashion_clip_loss", "weighted_total_loss", "color_correlation_masked"} & set(headline(scores))
    assert "color_correlation_masked" not in metrics_of(lora)
    said = sentence(scores).split("\n")[0]
    assert said.startswith("This LoRA lowers visual_loss by 0.000, lowers color_loss by")
    assert said.endswith("against the base model; without FashionCLIP there is no weighted_total_loss.")


def test_n_stands_beside_what_not_every_pair_has_in_table_mlflow_and_json():
    nan = math.nan
    base, lora = eight(weighted_total_loss=STEPS, ciede2000=STEPS)
    lora["ciede2000"] = [nan, nan, nan, *lora["ciede2000"][3:]]
    scores = compare(base, lora, EIGHT, resamples=50)
    labels = [label for label, _, _ in comparison_rows(lora, scores, EIGHT)]
    assert "ciede2000, n = 7 of 8 references (13 of 16 images)" in labels
    assert "weighted_total_loss" in labels
    assert intervals(scores)["gain_ciede2000_n"] == 7
    assert "gain_weighted_total_loss_n" not in intervals(scores)
    assert to_dict(scores)["ciede2000"]["gain"]["n"] == 7


def test_a_similarity_and_its_loss_are_one_line_of_a_table():
    assert table_names(["ssim", "visual_loss", "weighted_total_loss"]) == {
        "visual_loss": "visual_loss (1 - ssim)",
        "weighted_total_loss": "weighted_total_loss",
    }
    assert table_names(["ssim", "diversity"]) == {"ssim": "ssim", "diversity": "diversity"}


def test_summary_json_holds_claim_verdicts_p_n_and_power():
    scores = compare(*eight(weighted_total_loss=STEPS), EIGHT, resamples=500)
    facts = json.loads(json.dumps(summary(scores, "f", sentence(scores), 8, 16), allow_nan=False))
    assert (facts["claim"], facts["references"], facts["images"]) == ("this LoRA", 8, 16)
    total = facts["judged"]["weighted_total_loss"]
    assert (total["verdict"], total["gain"]["n"], total["p"]) == ("better", 8, pytest.approx(2 / 256))
    assert total["power"]["sees"] > 0
    assert total["power"]["for_half"] >= 8
    assert set(facts["judged"]) == set(LOSSES)


def test_one_side_alone_has_means_over_references_with_seeds_averaged_first():
    summary_ = summarise(table(weighted_total_loss=[0.2, 0.4, 0.6, 0.6]), NAMES, resamples=500)
    total = summary_["weighted_total_loss"]
    assert (total.mean, total.low, total.high, total.n) == (pytest.approx(0.45), None, None, 2)
    assert set(LOSSES) <= set(summary_)


def test_attribute_columns_are_metrics_of_which_more_is_better():
    scores = compare(table(attribute_kind=[0.0] * 4), table(attribute_kind=[1.0, 1.0, 1.0, 0.0]), NAMES, resamples=50)
    gain = scores["attribute_kind"].gain
    assert gain is not None
    assert gain.mean == 0.75


def test_intervals_end_where_the_metric_does():
    values = [1.0] * 12 + [0.9, 0.2, 0.9, 0.9]
    lora = pd.DataFrame(
        {"attribute_kind": values, "color_correlation_masked": values, "fashion_clip_loss": [1 - v for v in values]}
    )
    base = pd.DataFrame({name: [0.0] * 16 for name in lora})
    assert bootstrap_mean(lora["attribute_kind"].groupby(EIGHT).mean().tolist()).high > 1  # type: ignore[operator]
    scores = compare(base, lora, EIGHT, resamples=2000)
    alone = summarise(lora, EIGHT, resamples=2000)
    for name, ends in (("attribute_kind", (0, 1)), ("color_correlation_masked", (-1, 1)), ("fashion_clip_loss", (0, 1))):
        for interval in (scores[name].lora, alone[name]):
            assert interval.ends is not None
            assert ends[0] <= interval.ends[0] <= interval.mean <= interval.ends[1] <= ends[1]
    assert scores["attribute_kind"].gain.high == 1
