"""Memorisation: how near a generated picture is to the training picture that is nearest to it."""

from __future__ import annotations

import torch


def nearest(embeddings: torch.Tensor, training: torch.Tensor) -> tuple[list[float], list[int]]:
    """The cosine with the nearest training picture and its index, for L2-normalised embeddings (N, D) against (M, D), M > 0.

    Near 1: the model repeats a training picture. Somepalli et al. 2023, arXiv:2212.03860.
    """
    best = (embeddings @ training.T).max(1)
    return best.values.clamp(-1, 1).tolist(), best.indices.tolist()
