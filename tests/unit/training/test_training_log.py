"""What becomes of measured steps: rows of a LoRA, means of a StarGAN's epochs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from fashion_ml.errors import InputError
from fashion_ml.reports.loss_log import IMAGE_LOSSES, read_loss_log
from fashion_ml.training.training_log import EpochMeans, Step, StepRows, TrainingLog

HALF = {"skip_overflows": True, "steps_per_epoch": 4}


def step(number: int, **values: float) -> Step:
    return Step(number, 0.0, values, {})


def epoch(path: Path, *steps: Step, **options: Any) -> dict[str, float]:
    means = EpochMeans(path / "log.jsonl", **{**HALF, **options})
    means.take(steps, main=True)
    return means.epoch_values()


def test_means_are_over_the_steps_that_did_not_overflow(tmp_path: Path):
    """d_loss 1, overflowed, 2, 6: (1 + 2 + 6) / 3 = 3."""
    values = epoch(tmp_path, step(1, d_loss=1.0), step(2, d_loss=math.inf), step(3, d_loss=2.0), step(4, d_loss=6.0))
    assert (values["d_loss"], values["overflowed_steps"]) == (3.0, 1.0)


def test_the_penalty_is_averaged_over_the_steps_that_computed_it_and_did_not_overflow(tmp_path: Path):
    """R1 in steps 2 and 4; step 1 overflows in its loss, so that three count: r1 = (0.3 + 0.9) / 3 = 0.4, r1_computed = 1.2 / 2 = 0.6."""
    steps = [step(1, d_loss=math.nan), step(2, d_loss=1.0, r1=0.3), step(3, d_loss=1.0), step(4, d_loss=1.0, r1=0.9)]
    values = epoch(tmp_path, *steps)
    assert values["r1"] == pytest.approx(0.4)
    assert values["r1_computed"] == pytest.approx(0.6)
    # The step with R1 overflows elsewhere: its 0.3 counts for nothing; r1 = 0.9 / 3, r1_computed = 0.9 / 1.
    steps[:2] = [step(1, d_loss=1.0), step(2, d_loss=math.inf, r1=0.3)]
    values = epoch(tmp_path, *steps)
    assert values["r1"] == pytest.approx(0.3)
    assert values["r1_computed"] == pytest.approx(0.9)
    # The only one with R1 overflows: there is nothing to say about it.
    values = epoch(tmp_path, step(1, d_loss=1.0), step(2, d_loss=1.0, r1=math.inf))
    assert values["r1"] == 0.0
    assert "r1_computed" not in values


def test_diversity_is_averaged_over_the_steps_that_measured_it_and_did_not_overflow(tmp_path: Path):
    """Measured in steps 1 and 3 of four, 0.2 and 0.6; one that overflows counts for nothing, and if it is the only one there is no ds."""
    others = [step(2, d_loss=1.0), step(4, d_loss=1.0)]
    assert epoch(tmp_path, step(1, d_loss=1.0, ds=0.2), step(3, d_loss=1.0, ds=0.6), *others)["ds"] == pytest.approx(0.4)
    assert epoch(tmp_path, step(1, d_loss=math.inf, ds=0.2), step(3, d_loss=1.0, ds=0.6), *others)["ds"] == pytest.approx(0.6)
    assert "ds" not in epoch(tmp_path, step(1, d_loss=math.inf, ds=0.2), *others)


def test_an_epoch_resumed_in_its_middle_has_the_means_of_the_whole(tmp_path: Path):
    steps = [
        step(1, d_loss=math.inf, r1=0.1),
        step(2, d_loss=1.5, r1=0.25),
        step(3, d_loss=2.5, ds=0.1),
        step(4, d_loss=0.5, r1=0.5),
    ]
    whole = epoch(tmp_path, *steps)
    for stop in (1, 2, 3):
        first, second = (EpochMeans(tmp_path / "log.jsonl", **HALF) for _ in range(2))
        first.take(steps[:stop], main=True)
        second.restore(json.loads(json.dumps(first.to_dict())))
        second.take(steps[stop:], main=True)
        assert second.epoch_values() == whole


def test_an_epoch_of_which_most_steps_overflow_is_an_error_and_half_is_none(tmp_path: Path):
    good, bad = step(1, d_loss=1.0), step(2, d_loss=math.inf)
    assert epoch(tmp_path, good, bad)["overflowed_steps"] == 1
    with pytest.raises(ValueError, match="loss of most steps"):
        epoch(tmp_path, good, bad, bad)


def log_of(rows: StepRows | EpochMeans, folder: Path, accelerator: Any = None, **options: Any) -> TrainingLog:
    names = lambda number: [f"{number}{letter}.png" for letter in "abcdef"]  # noqa: E731
    accelerator = accelerator or Accelerator(cpu=True)
    return TrainingLog(folder, accelerator, rows, names_of=names, **{"last_step": 9, "flush_every": 3, **options})


def test_a_step_that_overflows_in_one_process_counts_in_none(tmp_path: Path):
    """Gradients are shared, so that the scalers of all leave it out: the mean over processes of 1 and infinity is infinity, of 1 and 3 is 2."""
    other = torch.tensor([math.inf, 3.0, 3.0])
    reduce = lambda own, reduction: (own + other) / 2  # noqa: E731
    two = SimpleNamespace(num_processes=2, is_main_process=True, device=torch.device("cpu"), reduce=reduce)
    means = EpochMeans(tmp_path / "log.jsonl", **HALF)
    log = log_of(means, tmp_path, two)
    for number in (1, 2, 3):
        log.add(number, {"d_loss": torch.tensor(1.0)}, {})
    values = means.epoch_values()
    assert (values["d_loss"], values["overflowed_steps"]) == (2.0, 1.0)


def test_a_loss_that_is_not_finite_names_its_step_its_files_and_the_last_good_one(tmp_path: Path):
    """Found when steps are handed out; what was measured before it is kept."""
    rows: list[dict[str, float]] = []
    series = StepRows(tmp_path / "loss.txt", rows.extend, log_every=1, last_step=9)
    log = log_of(series, tmp_path)
    (tmp_path / "lora-000001.safetensors").touch()
    with log.open(0):
        for number, loss in ((1, 0.5), (2, 0.25)):
            log.add(number, figure(loss), {"epoch": 1.0, "learning_rate": 1e-3})
        with pytest.raises(
            InputError,
            match=r"total_loss is not finite at step 3 \(images 3a\.png, 3b\.png, 3c\.png, 3d\.png …\); .*the last good file is .*lora-000001",
        ):
            log.add(3, figure(math.nan), {"epoch": 1.0, "learning_rate": 1e-3})
    assert [row["total_loss"] for row in rows] == [0.5, 0.25]
    assert [row.total_loss for row in read_loss_log(tmp_path / "loss.txt")] == [0.5, 0.25]
    bad = EpochMeans(tmp_path / "log.jsonl", steps_per_epoch=3, skip_overflows=False)
    with pytest.raises(InputError, match="g_loss, sty is not finite at step 3"):
        log_of(bad, tmp_path).add(3, {name: torch.tensor(math.inf) for name in ("g_loss", "sty")}, {})


def figure(loss: float) -> dict[str, torch.Tensor]:
    return {"total_loss": torch.tensor(loss), "grad_norm": torch.tensor(1.0)}


def test_values_stay_where_they_are_until_it_is_time_to_hand_them_out(tmp_path: Path):
    """Every third step, the last one, and at once where that is asked for."""
    seen: list[float] = []
    series = StepRows(tmp_path / "loss.txt", lambda rows: seen.extend(row["step"] for row in rows), log_every=3, last_step=5)
    log = log_of(series, tmp_path, last_step=5)
    counts = []
    for number in range(1, 6):
        log.add(number, figure(1.0), {"epoch": 1.0, "learning_rate": 1e-3}, now=number == 2)
        counts.append(len(seen))
    assert counts == [0, 2, 3, 3, 5]


def test_a_norm_that_overflowed_is_no_measurement(tmp_path: Path):
    rows: list[dict[str, float]] = []
    log = log_of(StepRows(tmp_path / "loss.txt", rows.extend, log_every=1, last_step=1), tmp_path, flush_every=1)
    log.add(1, {"total_loss": torch.tensor(1.0), "grad_norm": torch.tensor(math.inf)}, {"epoch": 1.0})
    assert "grad_norm" not in rows[0]


def test_the_loss_log_has_the_first_step_every_nth_and_the_last(tmp_path: Path):
    """Every 3 of 8: 1, 3, 6 and 8; what a step measured of its images has a row too."""
    series = StepRows(tmp_path / "loss.txt", lambda rows: None, log_every=3, last_step=8)
    log = log_of(series, tmp_path, last_step=8)
    with log.open(0):
        for number in range(1, 9):
            images = {IMAGE_LOSSES[0]: 0.5} if number == 5 else {}
            log.add(number, figure(float(number)), {"epoch": 1.0, "learning_rate": 1e-3, **images})
    rows = read_loss_log(tmp_path / "loss.txt")
    assert [(row.step, row.total_loss) for row in rows] == [(1, 1.0), (3, 3.0), (5, 5.0), (6, 6.0), (8, 8.0)]


def test_the_series_go_on_behind_what_a_state_kept(tmp_path: Path):
    first, second = (StepRows(tmp_path / "loss.txt", lambda rows: None, log_every=1, last_step=2) for _ in range(2))
    first.take([Step(1, 0.0, {"total_loss": 0.5, "grad_norm": 1.0}, {IMAGE_LOSSES[0]: 0.25})], main=True)
    second.restore(json.loads(json.dumps(first.to_dict())))
    second.take([Step(2, 0.0, {"total_loss": 0.75, "grad_norm": 1.0}, {})], main=True)
    assert second.total_loss.as_lists() == ([1, 2], [0.5, 0.75])
    assert second.image_losses[IMAGE_LOSSES[0]].as_lists() == ([1], [0.25])
