"""The base's own output for a prompt of the class, held on to while the LoRA learns its look.

Prior preservation without images: of the noisy images of a step the LoRA, given the class prompt, is to say what the base says of them. The
idea is that of learning without forgetting (Li & Hoiem 2016, arXiv:1606.09282), on noise predictions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from fashion_ml.losses.diffusion import per_image_mse
from fashion_ml.models.text_encoding import Text, Tokens
from fashion_ml.runtime.tensor_tree import mapped

HELD = "output_preservation_loss"
"""The mean squared distance to the base's output, before its weight; there only where a prompt is given."""


class OutputPreservation:
    """What holding on to the base's output adds to total_loss, and how far it is from it, summed over the batches of a step."""

    def __init__(self, weight: float):
        self._weight = weight
        self._sum: torch.Tensor | None = None

    def loss(self, own: torch.Tensor, base: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """The weight times sum(share * mean((own - base)^2)), 0-d; own, base (B, 4, h, w), share (B,)."""
        distance = (per_image_mse(own, base) * share).sum()
        self._sum = distance.detach() if self._sum is None else self._sum + distance.detach()
        return distance * self._weight

    def taken(self) -> dict[str, torch.Tensor]:
        """The step's sum by its name, which begins anew; empty where nothing was held on to."""
        found, self._sum = self._sum, None
        return {} if found is None else {HELD: found}


@contextmanager
def without_lora(models: Sequence[Any]) -> Iterator[None]:
    """Inside the block models that have a LoRA are the base."""
    for model in models:
        model.disable_adapters()
    try:
        yield
    finally:
        for model in models:
            model.enable_adapters()


def joined(one: Text | Tokens, other: Text | Tokens) -> Text | Tokens:
    """What the UNet reads, or tokens, of one after the other."""
    if isinstance(one, Tokens) and isinstance(other, Tokens) and (one.weights is None) != (other.weights is None):
        one, other = (part if part.weights is not None else replace(part, weights=_ones(part)) for part in (one, other))
    return mapped(lambda *both: torch.cat(both), one, other)


def _ones(tokens: Tokens) -> torch.Tensor:
    return torch.ones(tokens.ids.shape, device=tokens.ids.device)
