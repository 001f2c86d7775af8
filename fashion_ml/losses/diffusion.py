"""Noise-prediction losses of latent diffusion: pure functions, the noise is an argument.

Symbols: x_t noisy latent, t timestep, abar cumulative alpha, snr = abar / (1 - abar).
"""

from __future__ import annotations

import math

import torch


def snr(alphas_cumprod: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """Signal-to-noise ratio abar_t / (1 - abar_t) of each timestep; shape (B,), > 0. Kingma et al. 2021, arXiv:2107.00630."""
    abar = _whole(alphas_cumprod.to(timesteps.device)[timesteps])
    return abar / (1 - abar)


def add_noise(
    latents: torch.Tensor, noise: torch.Tensor, alphas_cumprod: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """x_t = sqrt(abar) latents + sqrt(1 - abar) noise, all (B, 4, h, w). Ho et al. 2020, arXiv:2006.11239, equation 4."""
    abar = _whole(alphas_cumprod.to(timesteps.device)[timesteps])[:, None, None, None]
    return (abar.sqrt() * latents).add_((1 - abar).sqrt() * noise)


def target_of(
    prediction_type: str, latents: torch.Tensor, noise: torch.Tensor, alphas_cumprod: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """What the UNet should predict, (B, 4, h, w): the noise, or the velocity sqrt(abar) noise - sqrt(1 - abar) latents.

    Salimans & Ho 2022, arXiv:2202.00512. ValueError for another prediction type.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        abar = _whole(alphas_cumprod.to(timesteps.device)[timesteps])[:, None, None, None]
        return abar.sqrt() * noise - (1 - abar).sqrt() * latents
    raise ValueError(f"prediction_type: {prediction_type!r} is not known; epsilon and v_prediction are")


def mask_weights(mask: torch.Tensor, unmasked_weight: float) -> torch.Tensor:
    """Weights of the cells of one image, of mean 1: the mask in [0, 1] with `unmasked_weight` where it is 0; any shape, not 0 all over.

    The mean of 1 lets every image count alike, however small a part of it is masked.
    """
    weights = unmasked_weight + (1 - unmasked_weight) * mask
    return weights / weights.mean()


def per_image_mse(prediction: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Mean squared error of each image in float32; (B, C, h, w) twice -> (B,). `weights` (B, 1, h, w) are of mean 1."""
    return _weighted_mean(torch.nn.functional.mse_loss(_whole(prediction), _whole(target), reduction="none"), weights)


def _whole(one: torch.Tensor) -> torch.Tensor:
    """In float32, or in float64 where it is."""
    return one if one.dtype == torch.float64 else one.float()


def _weighted_mean(values: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    return (values if weights is None else values * weights).mean(dim=(1, 2, 3))


def per_image_huber(
    prediction: torch.Tensor, target: torch.Tensor, c: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Pseudo-Huber loss 2c (sqrt(d^2 + c^2) - c) of each image in float32; (B, C, h, w) twice and c (B,) > 0 -> (B,).

    `weights` as for the squared error. d^2 for d much smaller than c, 2c|d| for d much larger. Khrapov et al. 2024, arXiv:2403.16728.
    """
    squared = (prediction.float() - target.float()).square()
    c = c.float()[:, None, None, None]
    # d^2 / (sqrt(d^2 + c^2) + c) is sqrt(d^2 + c^2) - c without the cancellation at small d
    return _weighted_mean(2 * c * squared / ((squared + c * c).sqrt() + c), weights)


def per_image_smooth_l1(
    prediction: torch.Tensor, target: torch.Tensor, c: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Pseudo-Huber loss divided by c, 2 (sqrt(d^2 + c^2) - c), of each image, as kohya's smooth_l1; shapes as for `per_image_huber`.

    d^2 / c for d much smaller than c, 2|d| for d much larger.
    """
    return per_image_huber(prediction, target, c, weights) / c.float()


def per_image_l1(prediction: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Mean absolute error of each image in float32; shapes as for the squared error."""
    return _weighted_mean((prediction.float() - target.float()).abs(), weights)


def per_image_log_cosh(prediction: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Mean of log cosh d of each image in float32; shapes as for the squared error. d^2 / 2 for small d, |d| - log 2 for large.

    Saleh & Saleh 2022, arXiv:2208.04564. As |d| + log(1 + exp(-2|d|)) - log 2, which does not overflow.
    """
    size = (prediction.float() - target.float()).abs()
    return _weighted_mean(size + torch.nn.functional.softplus(-2 * size) - math.log(2), weights)


def huber_c(schedule: str, c: float, alphas_cumprod: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """The Huber parameter of each timestep, (B,). Khrapov et al. 2024, arXiv:2403.16728, section 4.

    `constant`: c. `exponential`: exp(t / T * ln c), from 1 at t = 0 down towards c. `snr`: (1 - c) / (1 + sigma)^2 + c with
    sigma = sqrt((1 - abar) / abar), from nearly 1 without noise to c in pure noise. ValueError for another name.
    """
    if schedule == "constant":
        return torch.full(timesteps.shape, c, device=timesteps.device)
    if schedule == "exponential":
        of_each = torch.full(
            timesteps.shape, c, device=timesteps.device
        )  # made there: copying a number would make the host wait
        return torch.pow(of_each, timesteps / len(alphas_cumprod))
    if schedule == "snr":
        sigma = snr(alphas_cumprod, timesteps).rsqrt()
        return (1 - c) / (1 + sigma).square() + c
    raise ValueError(f"huber_schedule: {schedule!r} is not known; constant, exponential and snr are")


def min_snr_weight(snr_t: torch.Tensor, gamma: float, prediction_type: str) -> torch.Tensor:
    """Min-SNR weight of each image, (B,): min(snr, gamma) / snr for epsilon, / (snr + 1) for v. Hang et al. 2023, arXiv:2303.09556."""
    clamped = snr_t.clamp(max=gamma)
    return clamped / (snr_t + 1 if prediction_type == "v_prediction" else snr_t)


def debiased_weight(snr_t: torch.Tensor, prediction_type: str) -> torch.Tensor:
    """Debiased-estimation weight of each image, (B,): 1 / sqrt(snr) for epsilon, 1 / (snr + 1) for v; snr at most 1,000.

    Yu et al. 2023, arXiv:2310.08442. The bound keeps the weight of almost noiseless timesteps finite.
    """
    bounded = snr_t.clamp(max=1000)
    return 1 / (bounded + 1) if prediction_type == "v_prediction" else bounded.rsqrt()


def noise_like_weight(snr_t: torch.Tensor) -> torch.Tensor:
    """What the loss of v-prediction counts for, (B,), to weight timesteps as noise prediction does: snr / (snr + 1), snr at most 1,000.

    The error of v is the noise's times (snr + 1) / snr: Salimans & Ho 2022, arXiv:2202.00512, section 4.
    """
    bounded = snr_t.clamp(max=1000)
    return bounded / (bounded + 1)


def loss_shares(images: int, prior_images: int, prior_loss_weight: float) -> tuple[float, float]:
    """What the loss of each image, and of each prior image, counts for, so that the weighted sum over a step is
    mean(losses) + prior_loss_weight * mean(prior losses). Ruiz et al. 2022 (DreamBooth), arXiv:2208.12242, equation 2."""
    return 1 / images, prior_loss_weight / prior_images if prior_images else 0.0
