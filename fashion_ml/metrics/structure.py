"""Structure distance: how far the self-similarity of one picture's patches is from that of another's."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

PARAMETERS = {"keys": "last layer, all heads, class token too", "distance": "mean squared difference of cosines"}
"""What decides its numbers, beside the weights and the preprocessing of the DINOv2."""


def self_similarity(keys: torch.Tensor) -> torch.Tensor:
    """Cosines of every two tokens' keys: (N, T, D) -> (N, T, T). Tumanyan et al. 2022, arXiv:2201.00424, equation 3."""
    unit = normalize(keys, dim=2)
    return unit @ unit.mT


def structure_distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of self-similarities (N, T, T) and (N, T, T) or (1, T, T), row by row: (N,); 0 for one structure."""
    return (first - second).square().mean((1, 2))
