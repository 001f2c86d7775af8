from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from fashion_ml.losses.diffusion import min_snr_weight, per_image_mse, snr, target_of

ABAR = torch.tensor([0.9, 0.5, 0.1])


def test_snr_is_abar_over_one_minus_abar():
    """0.9 / 0.1 = 9, 0.5 / 0.5 = 1, 0.1 / 0.9 = 0.111"""
    torch.testing.assert_close(snr(ABAR, torch.tensor([0, 1, 2])), torch.tensor([9.0, 1.0, 1 / 9]))


def test_snr_equals_diffusers():
    scheduler, timesteps = DDPMScheduler(beta_schedule="scaled_linear"), torch.tensor([0, 1, 400, 999])
    torch.testing.assert_close(snr(scheduler.alphas_cumprod, timesteps), compute_snr(scheduler, timesteps), rtol=1e-5, atol=0)


def test_min_snr_weight_is_gamma_over_snr_above_gamma_and_one_below():
    """gamma 5: snr 9 gives 5/9, snr 1 gives 1/1"""
    torch.testing.assert_close(min_snr_weight(torch.tensor([9.0, 1.0]), 5, "epsilon"), torch.tensor([5 / 9, 1.0]))


def test_min_snr_weight_of_v_divides_by_snr_plus_one():
    """gamma 5: snr 9 gives 5/10, snr 1 gives 1/2"""
    torch.testing.assert_close(min_snr_weight(torch.tensor([9.0, 1.0]), 5, "v_prediction"), torch.tensor([0.5, 0.5]))


def test_velocity_equals_diffusers():
    scheduler, timesteps = DDPMScheduler(prediction_type="v_prediction"), torch.tensor([3, 500, 999])
    x, noise = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5)
    ours = target_of("v_prediction", x, noise, scheduler.alphas_cumprod, timesteps)
    torch.testing.assert_close(ours, scheduler.get_velocity(x, noise, timesteps))


def test_the_target_of_epsilon_is_the_noise():
    noise = torch.randn(2, 4, 3, 3)
    assert target_of("epsilon", torch.zeros_like(noise), noise, ABAR, torch.tensor([0, 1])) is noise


def test_an_unknown_prediction_type_is_named():
    with pytest.raises(ValueError, match="'sample' is not known"):
        target_of("sample", ABAR, ABAR, ABAR, torch.tensor([0]))


def test_per_image_mse_averages_each_image_in_float32():
    """errors 1 and 3: squares 1 and 9"""
    target = torch.zeros(2, 4, 2, 2, dtype=torch.float16)
    prediction = torch.stack([torch.ones(4, 2, 2), torch.full((4, 2, 2), 3.0)]).half()
    result = per_image_mse(prediction, target)
    assert result.tolist() == [1.0, 9.0]
    assert result.dtype == torch.float32
