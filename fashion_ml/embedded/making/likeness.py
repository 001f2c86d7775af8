"""Structural similarity as a loss, and one-pixel lines to be kept."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

GOLD = (236 / 127.5 - 1, 184 / 127.5 - 1, 74 / 127.5 - 1)
"""The gold of the collection's edge, in [-1, 1]."""
_LUMA = (0.299, 0.587, 0.114)
_WINDOW = 7


def with_luma(images: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, H, W) and their luma as a fourth channel (ITU-R BT.601, as Pillow's `L`)."""
    luma = sum(weight * images[:, channel] for channel, weight in enumerate(_LUMA))
    return torch.cat([images, luma[:, None]], 1)  # type: ignore[index]


def structural_similarity(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean SSIM of images in [-1, 1] over all channels, 0-d: windows of 7 x 7, sample covariances, as scikit-image computes it.

    Wang et al. 2004, "Image quality assessment", equation 13, with its constants 0.01 and 0.03.
    """
    count = _WINDOW**2

    def mean(values: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(values, _WINDOW, 1)

    mean_first, mean_second = mean(first), mean(second)
    unbiased = count / (count - 1)
    var_first = unbiased * (mean(first * first) - mean_first**2)
    var_second = unbiased * (mean(second * second) - mean_second**2)
    both = unbiased * (mean(first * second) - mean_first * mean_second)
    small, large = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    above = (2 * mean_first * mean_second + small) * (2 * both + large)
    below = (mean_first**2 + mean_second**2 + small) * (var_first + var_second + large)
    return (above / below).mean()


def line_masks(count: int, size: int, rng: np.random.Generator) -> torch.Tensor:
    """How much of each pixel a line or a ring of one pixel's width covers, (count, 1, size, size) in [0, 1]."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    masks = []
    for _ in range(count):
        px, py = rng.uniform(0.15, 0.85, 2) * size
        if rng.random() < 0.35:
            distance = np.abs(np.hypot(x - px, y - py) - rng.uniform(0.08, 0.4) * size)
        else:
            angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
            along = (x - px) * np.cos(angle) + (y - py) * np.sin(angle)
            aside = (y - py) * np.cos(angle) - (x - px) * np.sin(angle)
            beyond = np.clip(np.abs(along) - rng.uniform(0.1, 0.6) * size, 0, None)
            distance = np.hypot(aside, beyond)
        masks.append(np.clip(1 - distance, 0, 1))
    return torch.from_numpy(np.stack(masks).astype(np.float32))[:, None]


def with_lines(images: torch.Tensor, rng: np.random.Generator, share: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    """A line of one pixel in gold, or in any colour, on a share of the images (B, 3, H, W), and how much it covers, (B, 1, H, W)."""
    chosen = rng.random(len(images)) < share
    colours = rng.uniform(-1, 1, (len(images), 3))
    colours[rng.random(len(images)) < 0.5] = GOLD
    masks = line_masks(len(images), images.shape[-1], rng).numpy() * chosen[:, None, None, None]
    cover, ink = (torch.from_numpy(values.astype(np.float32)).to(images.device) for values in (masks, colours))
    return images * (1 - cover) + ink[:, :, None, None] * cover, cover
