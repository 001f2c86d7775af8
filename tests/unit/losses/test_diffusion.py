from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from fashion_ml.losses.diffusion import (
    add_noise,
    debiased_weight,
    huber_c,
    loss_shares,
    mask_weights,
    min_snr_weight,
    noise_like_weight,
    per_image_huber,
    per_image_l1,
    per_image_log_cosh,
    per_image_mse,
    per_image_smooth_l1,
    snr,
    target_of,
)

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


def test_noisy_latents_equal_diffusers():
    scheduler, timesteps = DDPMScheduler(beta_schedule="scaled_linear"), torch.tensor([0, 500, 999])
    x, noise = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5)
    ours = add_noise(x, noise, scheduler.alphas_cumprod, timesteps)
    torch.testing.assert_close(ours, scheduler.add_noise(x, noise, timesteps))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_min_snr_loss_equals_the_path_of_the_diffusers_example(prediction_type: str):
    """train_text_to_image_lora.py: weights = min(snr, gamma * 1) / snr, or / (snr + 1) for v; mean over pixels, then images."""
    scheduler, timesteps = DDPMScheduler(beta_schedule="scaled_linear"), torch.tensor([2, 300, 700, 990])
    prediction, target = torch.randn(4, 4, 6, 6), torch.randn(4, 4, 6, 6)
    theirs = compute_snr(scheduler, timesteps)
    weights = torch.stack([theirs, 5.0 * torch.ones_like(theirs)], dim=1).min(dim=1)[0]
    weights = weights / theirs if prediction_type == "epsilon" else weights / (theirs + 1)
    expected = torch.nn.functional.mse_loss(prediction, target, reduction="none").mean(dim=[1, 2, 3]) * weights
    ours = per_image_mse(prediction, target) * min_snr_weight(snr(scheduler.alphas_cumprod, timesteps), 5.0, prediction_type)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=0)


def test_velocity_by_hand():
    """abar 0.9: sqrt(0.9) * 2 - sqrt(0.1) * 1 = 1.897367 - 0.316228 = 1.581139"""
    x, noise = torch.ones(1, 4, 1, 1), torch.full((1, 4, 1, 1), 2.0)
    result = target_of("v_prediction", x, noise, ABAR, torch.tensor([0]))
    torch.testing.assert_close(result, torch.full((1, 4, 1, 1), 1.5811388))


def test_huber_by_hand_is_the_square_for_small_errors_and_linear_for_large():
    """d = 3, c = 4: 2 * 4 * (sqrt(9 + 16) - 4) = 8; d = 1e-3, c = 1: d^2 = 1e-6; d = 1000, c = 0.1: 0.2 * (1000 - 0.1) = 199.98"""
    target = torch.zeros(3, 1, 2, 2)
    prediction = torch.tensor([3.0, 1e-3, 1000.0]).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    result = per_image_huber(prediction, target, torch.tensor([4.0, 1.0, 0.1]))
    torch.testing.assert_close(result, torch.tensor([8.0, 1e-6, 199.980001]), rtol=1e-5, atol=0)


def test_huber_schedules_by_hand():
    """c 0.1, T 3: exponential 0.1^(0/3) = 1, 0.1^(1/3) = 0.464159; snr: abar 0.9 has sigma 1/3, 0.9 / (4/3)^2 + 0.1 = 0.60625;
    abar 0.5 has sigma 1, 0.9 / 4 + 0.1 = 0.325; abar 0.1 has sigma 3, 0.9 / 16 + 0.1 = 0.15625"""
    t = torch.tensor([0, 1, 2])
    assert huber_c("constant", 0.1, ABAR, t).tolist() == pytest.approx([0.1, 0.1, 0.1])
    assert huber_c("exponential", 0.1, ABAR, t).tolist() == pytest.approx([1.0, 0.1 ** (1 / 3), 0.1 ** (2 / 3)])
    assert huber_c("snr", 0.1, ABAR, t).tolist() == pytest.approx([0.60625, 0.325, 0.15625])
    with pytest.raises(ValueError, match="'cubic' is not known"):
        huber_c("cubic", 0.1, ABAR, t)


def test_debiased_weight_by_hand():
    """epsilon: snr 9 gives 1/3, 0.25 gives 2, 1e6 is bounded to 1,000; v: snr 9 gives 1/10"""
    values = debiased_weight(torch.tensor([9.0, 0.25, 1e6]), "epsilon")
    assert values.tolist() == pytest.approx([1 / 3, 2.0, 1000**-0.5])
    assert debiased_weight(torch.tensor([9.0]), "v_prediction").tolist() == pytest.approx([0.1])


def test_prior_preservation_by_hand():
    """mean(1, 3) + 0.5 * mean(4, 4, 1) = 2 + 0.5 * 3 = 3.5"""
    share, prior_share = loss_shares(2, 3, 0.5)
    assert share * (1 + 3) + prior_share * (4 + 4 + 1) == 3.5
    assert loss_shares(4, 0, 1.0) == (0.25, 0.0)


def test_cells_outside_a_mask_count_what_they_are_said_to_and_images_count_alike():
    """Errors 1, 2, 3, 4 on four cells, the mask on the first. Alone: 1. With 0.25 outside: weights 1, .25, .25, .25 of mean .4375, so
    (1 + .25 (4 + 9 + 16)) / 4 / .4375 = 8.25 / 1.75."""
    errors, mask = torch.tensor([1.0, 2, 3, 4]).view(1, 1, 2, 2), torch.tensor([1.0, 0, 0, 0]).view(1, 2, 2)
    target = torch.zeros_like(errors)
    for outside, expected in ((0.0, 1.0), (0.25, 8.25 / 1.75), (1.0, 30 / 4)):
        weights = mask_weights(mask, outside)
        assert weights.mean().item() == pytest.approx(1)
        assert per_image_mse(errors, target, weights[None]).item() == pytest.approx(expected)


def test_huber_weighs_cells_as_the_squared_error_does():
    errors, c = torch.randn(2, 4, 2, 2, generator=torch.Generator().manual_seed(0)) * 1e-3, torch.tensor([0.5, 0.5])
    weights = mask_weights(torch.tensor([[1.0, 0], [0.5, 0]]), 0.1).expand(2, 1, 2, 2)
    found = per_image_huber(errors, torch.zeros_like(errors), c, weights)  # far below c it is the square
    torch.testing.assert_close(found, per_image_mse(errors, torch.zeros_like(errors), weights), rtol=1e-4, atol=0)


def test_absolute_error_averages_each_image():
    """errors 1, -3 and 0, 0 of two images of two numbers: 2 and 0"""
    prediction = torch.tensor([[1.0, -3.0], [0.0, 0.0]]).view(2, 1, 1, 2)
    assert per_image_l1(prediction, torch.zeros_like(prediction)).tolist() == [2.0, 0.0]


def test_smooth_l1_is_pseudo_huber_over_its_parameter():
    """d 3, c 4: 2 (5 - 4) = 2, of which huber is 4 times as much"""
    prediction, c = torch.full((1, 1, 1, 1), 3.0), torch.tensor([4.0])
    assert per_image_smooth_l1(prediction, torch.zeros_like(prediction), c).item() == pytest.approx(2.0, abs=1e-6)
    assert per_image_huber(prediction, torch.zeros_like(prediction), c).item() == pytest.approx(8.0, abs=1e-6)


def test_log_cosh_is_half_the_square_of_small_errors_and_the_size_of_large_ones():
    """log cosh 1 = 0.433781; 0.01 gives 0.00005; 200 gives 200 - log 2, where cosh itself overflows"""
    errors = torch.tensor([1.0, 0.01, 200.0]).view(3, 1, 1, 1)
    result = per_image_log_cosh(errors, torch.zeros_like(errors))
    torch.testing.assert_close(result, torch.tensor([0.4337808, 0.00005, 199.3068528]), atol=2e-8, rtol=1e-5)


def test_masks_weight_every_error():
    """errors 2 and 4, of which the mask counts the first twice and the second not at all"""
    prediction, weights = torch.tensor([2.0, 4.0]).view(1, 1, 1, 2), torch.tensor([2.0, 0.0]).view(1, 1, 1, 2)
    target, c = torch.zeros_like(prediction), torch.tensor([0.5])
    assert per_image_l1(prediction, target, weights).item() == 2.0
    for loss in (per_image_log_cosh, lambda *given: per_image_smooth_l1(*given[:2], c, *given[2:])):
        assert loss(prediction, target, weights).item() == pytest.approx(loss(prediction[..., :1], target[..., :1]).item())


def test_the_loss_of_v_scaled_like_noise_is_the_loss_of_noise():
    """v and noise predicted from one x_0 estimate: error of v = error of noise * (snr + 1) / snr"""
    x, noise, wrong = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5)
    timesteps = torch.tensor([0, 1, 2])
    root, rest = ABAR.sqrt().view(3, 1, 1, 1), (1 - ABAR).sqrt().view(3, 1, 1, 1)
    noisy = add_noise(x, noise, ABAR, timesteps)
    estimate = (noisy - rest * wrong) / root  # the image that a predicted noise means, and the velocity that it means
    by_v = per_image_mse(root * wrong - rest * estimate, target_of("v_prediction", x, noise, ABAR, timesteps))
    torch.testing.assert_close(
        by_v * noise_like_weight(snr(ABAR, timesteps)), per_image_mse(wrong, noise), rtol=1e-4, atol=1e-5
    )


def test_the_weight_stays_finite_without_noise():
    assert noise_like_weight(torch.tensor([float("inf")])).item() == pytest.approx(1000 / 1001)
