from __future__ import annotations

import pytest
import torch
from diffusers.optimization import get_scheduler
from transformers.optimization import get_cosine_with_min_lr_schedule_with_warmup, get_wsd_schedule

from fashion_ml.training.lr_schedule import lr_factor


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("shape", ["constant", "cosine", "linear"])
def test_equal_to_diffusers_at_every_step(shape: str, warmup: int):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    name = "constant_with_warmup" if shape == "constant" else shape
    reference = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=10)
    for step in range(1, 11):
        assert lr_factor(step, shape=shape, warmup_steps=warmup, total_steps=10) == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()


def test_linear_ends_at_a_share_of_the_peak_by_hand():
    """Half way to 0.2 is 0.6; four steps, of which the fifth would be the end."""
    found = [lr_factor(step, shape="linear", warmup_steps=0, total_steps=4, least=0.2) for step in range(1, 6)]
    assert found == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_polynomial_equals_diffusers_at_every_step(power: float):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    reference = get_scheduler("polynomial", optimizer, num_warmup_steps=2, num_training_steps=10, power=power)
    for step in range(1, 11):
        factor = lr_factor(step, shape="polynomial", warmup_steps=2, total_steps=10, peak=3e-4, power=power)
        assert 3e-4 * factor == pytest.approx(reference.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        reference.step()


@pytest.mark.parametrize("cycles", [1, 3])
def test_restarts_equal_diffusers_at_every_step(cycles: int):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = get_scheduler("cosine_with_restarts", optimizer, num_warmup_steps=2, num_training_steps=14, num_cycles=cycles)
    for step in range(1, 15):
        factor = lr_factor(step, shape="cosine_with_restarts", warmup_steps=2, total_steps=14, cycles=cycles)
        assert factor == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()


@pytest.mark.parametrize("least", [0.0, 0.1])
def test_a_cosine_that_ends_above_zero_equals_transformers_at_every_step(least: float):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = get_cosine_with_min_lr_schedule_with_warmup(optimizer, 2, 12, min_lr_rate=least)
    for step in range(1, 13):
        factor = lr_factor(step, shape="cosine", warmup_steps=2, total_steps=12, least=least)
        assert factor == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()


@pytest.mark.parametrize(("decay", "least"), [(4, 0.0), (0.25, 0.1), (1, 0.5)])
def test_warm_up_stable_decay_equals_transformers_at_every_step(decay: float, least: float):
    optimizer, steps = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), 16
    whole = int(decay * steps) if decay < 1 else int(decay)
    reference = get_wsd_schedule(optimizer, 3, whole, num_training_steps=steps, min_lr_ratio=least)
    for step in range(1, steps + 1):
        factor = lr_factor(step, shape="warmup_stable_decay", warmup_steps=3, total_steps=steps, least=least, decay_steps=decay)
        if step > 3 or not least:  # its warm-up begins at the least rate, ours always at 0
            assert factor == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()


def test_rex_by_hand():
    """(1 - p) / (1 - p / 2): 1 at the start, 0.5 / 0.75 = 2/3 half way, 0.25 / 0.625 = 0.4 at three quarters; to 0.2 it is 0.2 + 0.8 of that"""
    found = [lr_factor(step, shape="rex", warmup_steps=0, total_steps=4) for step in (1, 3, 4)]
    assert found == pytest.approx([1, 2 / 3, 0.4])
    assert lr_factor(3, shape="rex", warmup_steps=0, total_steps=4, least=0.2) == pytest.approx(0.2 + 0.8 * 2 / 3)


def test_a_warm_up_below_one_is_a_share_of_all_steps_rounded_down():
    """0.25 of 10 steps are 2, so the rate is whole from the third step on."""
    found = [lr_factor(step, shape="constant", warmup_steps=0.25, total_steps=10) for step in range(1, 5)]
    assert found == [0, 0.5, 1, 1]
