"""What the rows of the registry measure: each function brings its formula's arguments together, and imports the formula when it is called.

The third argument of a pair's is what the metric's `load` gave. None where there is no value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from fashion_ml.metrics.picture import Picture


def ssim(made: Picture, other: Picture, _: Any) -> float:
    """Of whole pictures."""
    from fashion_ml.metrics.ssim import ssim, ssim_of_windows

    if made.image.size != other.image.size:
        return ssim(made.image, other.image)
    return ssim_of_windows(made.windows, other.windows)


def fashion_similarity(made: Picture, other: Picture, _: Any) -> float | None:
    """Of their embeddings."""
    from fashion_ml.metrics.fashion_clip import cosine

    if made.embedding is None or other.embedding is None:
        return None
    return cosine(made.embedding[None], other.embedding[None])[0]


def color_correlation(made: Picture, other: Picture, _: Any) -> float:
    """Of whole pictures."""
    from fashion_ml.metrics.color import correlation_of_colors

    return correlation_of_colors(made.colors, other.colors)


def loss(similarity: str) -> Callable[[Mapping[str, float], Mapping[str, float]], float]:
    """From the similarity of that name in the row."""

    def of_row(row: Mapping[str, float], _: Mapping[str, float]) -> float:
        from fashion_ml.metrics.losses import similarity_to_loss

        return similarity_to_loss(row[similarity])

    return of_row


def total(row: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """From the losses in the row."""
    from fashion_ml.metrics.losses import weighted_total
    from fashion_ml.metrics.registry import SIMILARITY_OF

    return weighted_total({loss: row[loss] for loss in SIMILARITY_OF}, weights)


def attribute_similarity(made: Picture, other: Picture, _: Any) -> float | None:
    """Of their labels."""
    from fashion_ml.metrics.attributes import attribute_similarity

    return attribute_similarity(made.labels, other.labels)[0] if made.labels and other.labels else None


def same_attributes(made: Picture, other: Picture, _: Any) -> dict[str, float] | None:
    """By category, whether the top labels agree."""
    from fashion_ml.metrics.attributes import attribute_similarity

    return attribute_similarity(made.labels, other.labels)[1] if made.labels and other.labels else None


def color_correlation_masked(made: Picture, other: Picture, _: Any) -> float | None:
    """Of the garments alone."""
    from fashion_ml.metrics.color import color_correlation_masked

    if made.mask is None or other.mask is None:
        return None
    return color_correlation_masked(made.image, other.image, made.mask, other.mask)


def ciede2000(made: Picture, other: Picture, _: Any) -> float | None:
    """Where both show the garment."""
    from fashion_ml.metrics.ciede2000 import ciede2000

    return None if made.mask is None or other.mask is None else ciede2000(made.image, other.image, made.mask, other.mask)


def dino_similarity(made: Picture, other: Picture, _: Any) -> float | None:
    """Of their class tokens."""
    from fashion_ml.metrics.fashion_clip import cosine

    return None if made.dino is None or other.dino is None else cosine(made.dino[None], other.dino[None])[0]


def lpips(made: Picture, other: Picture, model: Any) -> float:
    """The model's distance."""
    return model.distances([(made.image, other.image)])[0]


def load_lpips(device: str) -> Any:
    """InputError as `Lpips`."""
    from fashion_ml.metrics.lpips import Lpips

    return Lpips(device)


def kid(
    made: torch.Tensor, references: torch.Tensor, made_of: torch.Tensor, alike: torch.Tensor, weights: torch.Tensor | None
) -> torch.Tensor | None:
    """Of all pictures' and all references' embeddings."""
    from fashion_ml.metrics.kid import kernel_inception_distance

    return kernel_inception_distance(made, references, made_of, alike, weights)
