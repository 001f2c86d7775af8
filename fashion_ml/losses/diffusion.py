"""Noise-prediction losses of latent diffusion: pure functions, the noise is an argument.

Symbols: x_t noisy latent, t timestep, abar cumulative alpha, snr = abar / (1 - abar).
"""

from __future__ import annotations

import torch


def snr(alphas_cumprod: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """Signal-to-noise ratio abar_t / (1 - abar_t) of each timestep; shape (B,), > 0. Kingma et al. 2021, arXiv:2107.00630."""
    abar = alphas_cumprod.to(timesteps.device)[timesteps].float()
    return abar / (1 - abar)


def target_of(
    prediction_type: str, latents: torch.Tensor, noise: torch.Tensor, alphas_cumprod: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """What the UNet should predict, (B, 4, h, w): the noise, or the velocity sqrt(abar) noise - sqrt(1 - abar) latents.

    Salimans & Ho 2022, arXiv:2202.00512. ValueError for another prediction type.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        abar = alphas_cumprod.to(timesteps.device)[timesteps].float()[:, None, None, None]
        return abar.sqrt() * noise - (1 - abar).sqrt() * latents
    raise ValueError(f"prediction_type: {prediction_type!r} is not known; epsilon and v_prediction are")


def per_image_mse(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each image in float32; (B, C, h, w) twice -> (B,)."""
    return (prediction.float() - target.float()).square().mean(dim=(1, 2, 3))


def min_snr_weight(snr_t: torch.Tensor, gamma: float, prediction_type: str) -> torch.Tensor:
    """Min-SNR weight of each image, (B,): min(snr, gamma) / snr for epsilon, / (snr + 1) for v. Hang et al. 2023, arXiv:2303.09556."""
    clamped = snr_t.clamp(max=gamma)
    return clamped / (snr_t + 1 if prediction_type == "v_prediction" else snr_t)
