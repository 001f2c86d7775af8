"""What fits where, at Stable Diffusion 1.5's size: peaks of steps, of the evaluation after them and of grids, counted without a GPU."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu_memory import ENCODERS, encoder_of_images, evaluation, grid, lora_step, stargan_step
from fashion_ml.training.memory_estimate import GIB


def test_a_lora_step_fits():
    """Others: tests/full; and those that a GPU measured: tests/unit/training/test_memory_estimate.py. The UNet's weights take 1.6 GiB."""
    assert 1.6 < lora_step(512, 8, "bf16", training={"gradient_checkpointing": True}) < 3.7


@pytest.fixture(scope="module")
def training() -> float:
    """A step at batch 1."""
    return lora_step(512, 1, "bf16")


@pytest.mark.parametrize("architecture", ENCODERS.values(), ids=ENCODERS)
def test_the_evaluation_with_its_encoder_needs_at_most_half_a_gib_more_than_the_training_before_it(
    architecture: str, training: float
):
    """The image tower, 88 or 93 million weights in float32, is counted; tests/unit/evaluation/test_gpu_room.py holds the code to who is
    there when."""
    assert 87e6 * 4 < encoder_of_images(4, architecture) < 0.5 * GIB
    for dtype in (torch.bfloat16, torch.float16):
        assert evaluation(512, 4, dtype, architecture=architecture) < training + 0.5


def test_a_grid_of_a_stargan_takes_less_than_a_gib_however_many_pictures_it_has():
    for dtype in (torch.bfloat16, torch.float32):
        few, many = grid(512, 4, dtype), grid(512, 24, dtype)
        assert many < 1
        assert many == pytest.approx(few, abs=0.01)


def test_a_stargan_step_is_counted_within_a_quarter_of_what_a_gpu_measured():
    """At batch 64 on latents of 512 px, steps with R1 among them, 20.0 GiB in bf16, cuDNN's workspaces included."""
    assert 0.8 * 20.0 < stargan_step(512, 64, "bf16") < 20.0
