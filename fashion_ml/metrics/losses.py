"""From similarities to the losses and the weighted total that runs are compared by."""

from __future__ import annotations

from collections.abc import Mapping


def similarity_to_loss(similarity: float) -> float:
    """1 - the similarity clamped to [0, 1]; in [0, 1]."""
    return 1 - min(max(similarity, 0.0), 1.0)


def weighted_total(losses: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The sum of the losses, each in [0, 1], times their weights, which sum to 1; in [0, 1]."""
    return sum(weights[loss] * value for loss, value in losses.items())
