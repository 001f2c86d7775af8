"""What noise training adds: pure functions, every draw is an argument."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def offset_noise(noise: torch.Tensor, shift: torch.Tensor, strength: float) -> torch.Tensor:
    """Noise (B, 4, h, w) with a constant added to every channel: noise + strength * shift, shift (B, 4, 1, 1) standard normal.

    Guttenberg 2023, "Diffusion with Offset Noise": lets the model learn overall brightness.
    """
    return noise + strength * shift


def multires_sizes(height: int, width: int, ratios: Sequence[float]) -> list[tuple[int, int]]:
    """Sizes of the coarser noises: at level i both sides divided by ratios[i] ** i, rounded down; a side of 1 is the last level.

    Ratios in [2, 4), one for each level; the first level has the whole size. Whitaker 2023, "Multi-Resolution Noise for Diffusion Model
    Training".
    """
    sizes: list[tuple[int, int]] = []
    for level, ratio in enumerate(ratios):
        sizes.append((max(1, int(height / ratio**level)), max(1, int(width / ratio**level))))
        if 1 in sizes[-1]:
            break
    return sizes


def multires_noise(noise: torch.Tensor, coarser: Sequence[torch.Tensor], discount: float) -> torch.Tensor:
    """Noise (C, h, w) with coarser noise on top: sum of discount ** i * coarser[i], each scaled up linearly, then of standard deviation 1.

    `coarser` are standard normal, (C, h_i, w_i) by `multires_sizes`. Whitaker 2023, "Multi-Resolution Noise for Diffusion Model Training".
    """
    summed = noise.clone()
    for level, one in enumerate(coarser):
        summed += torch.nn.functional.interpolate(one[None], size=noise.shape[-2:], mode="bilinear")[0] * discount**level
    return summed / summed.std()


def perturbed(noise: torch.Tensor, more: torch.Tensor, gamma: float) -> torch.Tensor:
    """The noise that the images get, noise + gamma * more, while `noise` stays what is to be predicted; (B, 4, h, w) twice, standard normal.

    Ning et al. 2023, "Input Perturbation Reduces Exposure Bias in Diffusion Models", arXiv:2301.11706, algorithm 1.
    """
    return noise + gamma * more
