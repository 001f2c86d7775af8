"""From similarities to the losses and the weighted total that runs are compared by."""

from __future__ import annotations

SIMILARITY_OF = {"visual_loss": "ssim", "fashion_clip_loss": "fashion_similarity", "color_loss": "color_correlation"}
"""Each loss and the similarity it comes from."""


def similarity_to_loss(similarity: float) -> float:
    """1 - the similarity clamped to [0, 1]; in [0, 1]."""
    return 1 - min(max(similarity, 0.0), 1.0)


def losses_of(similarities: dict[str, float], weights: dict[str, float]) -> dict[str, float]:
    """The losses of one pair, and `weighted_total_loss` if and only if all three were measured.

    `similarities` holds `ssim`, `fashion_similarity`, `color_correlation` as far as they were measured; `weights` maps the
    three losses to weights that sum to 1. What was not measured is absent from the result.
    """
    losses = {loss: similarity_to_loss(similarities[name]) for loss, name in SIMILARITY_OF.items() if name in similarities}
    if len(losses) == len(SIMILARITY_OF):
        losses["weighted_total_loss"] = sum(weights[loss] * value for loss, value in losses.items())
    return losses
