"""fp16 that learns nothing is said, and then it is an error, for both trainers."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest

from fashion_ml.errors import InputError
from fashion_ml.training.skipped_steps import SKIPPED, SkippedSteps
from fashion_ml.training.training_log import EpochMeans, Step, StepRows


def test_five_in_a_row_are_said_once_and_scattered_ones_are_not(caplog: pytest.LogCaptureFixture):
    skipped = SkippedSteps()
    with caplog.at_level(logging.WARNING, "fashion_ml"):
        for step in range(1, 31):
            skipped.add(step, step % 3 == 0)  # ten, never two in a row
        assert not caplog.records
        for step in range(31, 39):
            skipped.add(step, True)
    assert [record.message.partition(",")[0] for record in caplog.records] == ["fp16 overflowed in the 5 steps up to step 34"]
    assert skipped.count == 18


def test_a_scaler_that_comes_down_from_its_first_scale_stops_nothing():
    skipped = SkippedSteps()
    for step in range(1, 200):
        skipped.add(step, step <= 16)  # from 2 ** 16 down to 1
    assert skipped.count == 16


def test_most_of_fifty_stop_the_run_with_the_settings_that_help():
    skipped = SkippedSteps()
    for step in range(1, 50):
        skipped.add(step, step % 2 == 1)  # 25 of 49
    with pytest.raises(
        InputError, match=r"^training\.mixed_precision: fp16 overflowed in 26 of the 50 steps up to step 50,.* bf16"
    ):
        skipped.add(50, True)


def rows(tmp_path: Path, into: list[dict[str, float]], **options: bool) -> StepRows:
    return StepRows(tmp_path / "loss.txt", into.extend, log_every=1, last_step=9, **options)


def step(number: int, norm: float) -> Step:
    return Step(number, 0.0, {"total_loss": 1.0, "grad_norm": norm}, {"epoch": 1.0, "learning_rate": 1.0})


def test_the_metric_of_a_lora_counts_them_over_stops_and_is_there_in_fp16_alone(tmp_path: Path):
    seen: list[dict[str, float]] = []
    first = rows(tmp_path, seen, skips_overflows=True)
    first.take([step(1, math.inf), step(2, 0.5), step(3, math.nan)], main=True)
    assert [(row[SKIPPED], "grad_norm" in row) for row in seen] == [(1.0, False), (1.0, True), (2.0, False)]
    assert first.note == " loss 1.0000 skipped 2"
    second = rows(tmp_path, seen, skips_overflows=True)
    second.restore(first.to_dict())
    second.take([step(4, math.inf)], main=True)
    assert seen[-1][SKIPPED] == 3.0
    plain: list[dict[str, float]] = []
    other = rows(tmp_path, plain)
    other.take([step(1, 0.5)], main=True)
    assert SKIPPED not in plain[0]
    assert SKIPPED not in other.to_dict()


def test_the_means_of_a_stargans_epoch_say_how_many_were_skipped_though_their_losses_were_finite(tmp_path: Path):
    means = EpochMeans(tmp_path / "log.jsonl", steps_per_epoch=3, skip_overflows=True)
    terms = {"d_loss": 1.0, "g_loss": 2.0}
    means.take([Step(number, 0.0, {**terms, SKIPPED: float(number == 2)}, {}) for number in (1, 2, 3)], main=True)
    kept = means.to_dict()
    found = means.epoch_values()
    assert (found["d_loss"], found[SKIPPED]) == (1.0, 1.0)
    again = EpochMeans(tmp_path / "log.jsonl", steps_per_epoch=3, skip_overflows=True)
    again.restore(kept)
    again.take([Step(4, 0.0, {**terms, SKIPPED: 1.0}, {})], main=True)
    assert again.epoch_values()[SKIPPED] == 2.0
