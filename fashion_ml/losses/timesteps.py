"""Which timesteps training sees, and what each counts for: pure functions, every draw is an argument."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def logit_normal(normal: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    """Shares of the noise in (0, 1), any shape: sigmoid(mean + std * normal), of standard normal draws.

    Esser et al. 2024, arXiv:2403.03206, equation 19.
    """
    return torch.sigmoid(mean + std * normal)


def mode_heavy(uniform: torch.Tensor, scale: float) -> torch.Tensor:
    """Shares of the noise in [0, 1], any shape: 1 - u - scale * (cos(pi u / 2)^2 - 1 + u), of uniform draws u.

    Falls from 1 to 0 for scales from -1 to 2 / (pi - 2) = 1.75. Esser et al. 2024, arXiv:2403.03206, equation 20.
    """
    return 1 - uniform - scale * (torch.cos(math.pi * uniform / 2).square() - 1 + uniform)


def timesteps_at(shares: torch.Tensor, first: int, end: int) -> torch.Tensor:
    """Whole timesteps in [first, end) of shares in [0, 1], of which 0 has the least noise."""
    return (first + shares * (end - first)).long().clamp(first, end - 1)


def weight_curve(points: Sequence[tuple[int, float]], timesteps: int) -> torch.Tensor:
    """What each of so many timesteps counts for, (timesteps,): straight between points (timestep, weight), which ascend, level outside."""
    import numpy as np

    places, weights = zip(*points, strict=True)
    return torch.from_numpy(np.interp(np.arange(timesteps), places, weights)).float()
