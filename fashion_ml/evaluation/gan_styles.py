"""What a StarGAN's evaluation guides a content by: held-out references of the target domain, and noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fashion_ml.data.stargan_batches import GanInputs
from fashion_ml.runtime.seeding import generator

Latent = tuple[int, int]
"""Domain and index."""


def references_of(
    content: Latent, number: int, target: int, inputs: GanInputs, held: Sequence[Sequence[int]], styles: int
) -> list[Latent]:
    """Up to so many held-out latents of the target domain, none the content itself; `number` is the content's, by which they begin elsewhere.

    Of the training where nothing is held out of that domain.
    """
    others = [other for other in held[target] if (target, other) != content] or inputs.training[target]
    return [(target, others[(number + one) % len(others)]) for one in range(min(styles, len(others)))]


def noise_of(number: int, target: int, seed: int, styles: int, latent_dim: int) -> torch.Tensor:
    """(styles, latent_dim), of a content by its number and a target."""
    return torch.randn(styles, latent_dim, generator=generator(seed, f"styles {number}", target))
