"""fp16 that learns nothing is said, and then it is an error, for both trainers."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st

from fashion_ml.errors import InputError
from fashion_ml.training import lora_loop
from fashion_ml.training.resume_point import STATE
from fashion_ml.training.skipped_steps import SKIPPED, SkippedSteps
from fashion_ml.training.train_state import load_state
from fashion_ml.training.training_log import EpochMeans, Step, StepRows
from tests.unit.training import test_stargan_loop as gan
from tests.unit.training.setup import experiment, train, write_images
from tests.unit.training.test_lengthening import latents

__all__ = ["latents"]


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


@pytest.mark.parametrize(("skipped", "of"), [(49, 49), (45, 49), (1, 1), (3, 3)])
def test_a_training_of_few_steps_that_skipped_nearly_all_ends_in_an_error_that_names_the_setting(skipped: int, of: int):
    counted = SkippedSteps()
    for step in range(1, of + 1):
        counted.add(step, step <= skipped)
    message = (
        rf"^training\.mixed_precision: fp16 overflowed in {skipped} of the {of} steps up to step {of}, .*; use bf16, or no, or"
    )
    with pytest.raises(InputError, match=message):
        counted.at_the_end(of)


def test_a_training_of_few_steps_of_which_some_moved_ends_well_and_says_that_most_did_not(caplog: pytest.LogCaptureFixture):
    """Two of three, as of a scaler that comes down, and 25 of 49, which is most."""
    for skipped, of, said in ((2, 3, 1), (1, 2, 0), (25, 49, 1), (24, 49, 0)):
        counted = SkippedSteps()
        caplog.clear()
        with caplog.at_level(logging.WARNING, "fashion_ml"):
            for step in range(1, of + 1):
                counted.add(step, step % 2 == 1 if of == 49 and skipped == 25 else step <= skipped)
            caplog.clear()
            counted.at_the_end(of)
        assert [record.message.partition(":")[0] for record in caplog.records] == ["training.mixed_precision"] * said


@given(st.lists(st.booleans(), min_size=1, max_size=130), st.integers(0, 130))
def test_a_stop_anywhere_changes_neither_what_is_counted_nor_when_it_is_an_error(left_out: list[bool], stop: int):
    """Through JSON, as a state keeps it."""

    def counted(cut: int | None) -> tuple[dict[str, Any], str]:
        found, said = SkippedSteps(), ""
        try:
            for step, one in enumerate(left_out, 1):
                if step == cut:
                    plain, found = json.loads(json.dumps(found.to_dict())), SkippedSteps()
                    found.restore(plain)
                found.add(step, one)
            found.at_the_end(len(left_out))
        except InputError as error:
            said = str(error)
        return {**found.to_dict(), "in a row": min(found._in_a_row, 50)}, said

    assert counted(None) == counted(stop)


def test_a_state_of_before_there_was_a_window_is_read():
    counted = SkippedSteps()
    counted.restore({SKIPPED: 3})
    assert counted.to_dict() == {SKIPPED: 3, "skipped_latest": ""}


class Overflows:
    """Steps that a scaler leaves out; `step` counts them, and behind `stop` comes Ctrl-C."""

    def __init__(self) -> None:
        self.left_out, self.step, self.stop = set[int](), 0, 0


@pytest.fixture
def fp16_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> Overflows:
    """Let a LoRA train in what it takes for fp16, which needs a GPU."""
    from tests.unit.training import setup

    found, clipped_step = Overflows(), lora_loop.clipped_step

    def clipped(optimizer: Any, parameters: Any, max_norm: float, scaler: Any = None) -> torch.Tensor:
        if found.stop and found.step == found.stop:
            raise KeyboardInterrupt
        found.step += 1
        if found.step not in found.left_out:
            return clipped_step(optimizer, parameters, max_norm)
        optimizer.zero_grad()
        return torch.tensor(math.inf)

    monkeypatch.setattr(lora_loop, "clipped_step", clipped)
    monkeypatch.setattr(setup, "Accelerator", lambda mixed_precision, cpu: Accelerator(cpu=cpu))
    return found


def test_a_lora_that_skipped_every_step_is_an_error_and_writes_no_file(tmp_path: Path, fp16_on_a_cpu: Overflows):
    write_images(tmp_path / "images")
    config = experiment(tmp_path / "images", training={"mixed_precision": "fp16"})
    fp16_on_a_cpu.left_out = {1, 2, 3, 4}
    seen: list[dict[str, float]] = []
    with pytest.raises(InputError, match=r"^training\.mixed_precision: fp16 overflowed in 4 of the 4 steps"):
        train(config, tmp_path / "out", rows=seen)
    assert [row[SKIPPED] for row in seen] == [1.0, 2.0, 3.0, 4.0]
    assert not list((tmp_path / "out").glob("*.safetensors"))


@pytest.mark.parametrize("stop", [1, 3])
def test_a_stopped_lora_goes_on_with_the_steps_that_were_skipped(tmp_path: Path, fp16_on_a_cpu: Overflows, stop: int):
    """Steps 1 and 3 of 4, whole and stopped: the same rows, and the same weights and latest steps in the state."""
    write_images(tmp_path / "images")
    config, fp16_on_a_cpu.left_out = experiment(tmp_path / "images", training={"mixed_precision": "fp16"}), {1, 3}
    whole = train(config, tmp_path / "whole").rows
    parts: list[dict[str, float]] = []
    fp16_on_a_cpu.step, fp16_on_a_cpu.stop = 0, stop
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "parts", rows=parts)
    fp16_on_a_cpu.stop = 0
    train(config, tmp_path / "parts", resume=True, rows=parts)
    assert whole == parts
    states = [load_state(tmp_path / part / STATE) for part in ("whole", "parts")]
    assert [one.extra["log"]["skipped_latest"] for one in states] == ["1010", "1010"]
    assert all(torch.equal(a, b) for a, b in zip(states[0].tensors, states[1].tensors, strict=True))


def test_a_stargan_that_skipped_every_step_is_an_error_though_its_losses_were_finite(latents: Path, tmp_path: Path):
    """A scale that no gradient bears: the losses are well, and no step is taken."""
    config = gan.experiment(latents, training={"mixed_precision": "fp16"})

    class Steep(torch.amp.GradScaler):
        def __init__(self, device: str, enabled: bool) -> None:
            super().__init__(device, init_scale=1e38, backoff_factor=0.999, enabled=enabled)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.amp, "GradScaler", Steep)
        with pytest.raises(InputError, match=r"^training\.mixed_precision: fp16 overflowed in 9 of the 9 steps up to step 9"):
            gan.train(config, latents, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.safetensors"))
    assert len(gan.log_of(tmp_path / "out")) == 2


def test_a_stopped_stargan_goes_on_with_the_steps_that_were_skipped(latents: Path, tmp_path: Path):
    """The scaler comes down from a scale that no gradient bears, a little at a time."""
    config = gan.experiment(latents, training={"mixed_precision": "fp16"})

    class Steep(torch.amp.GradScaler):
        def __init__(self, device: str, enabled: bool) -> None:
            super().__init__(device, init_scale=2.0**40, backoff_factor=2.0**-8, enabled=enabled)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.amp, "GradScaler", Steep)
        gan.train(config, latents, tmp_path / "whole")
        assert gan.train(config, latents, tmp_path / "parts", stop_after=3) is None
        gan.train(config, latents, tmp_path / "parts", resume=True)
    states = [load_state(tmp_path / part / STATE).extra for part in ("whole", "parts")]
    assert states[0]["log"] == states[1]["log"]
    assert "1" in states[0]["log"]["skipped_latest"]
    assert states[0]["scalers"] == states[1]["scalers"]
    assert gan.log_of(tmp_path / "whole") == gan.log_of(tmp_path / "parts")
