"""A picture with everything about it that metrics need, so that it is worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from fashion_ml.metrics.attributes import Labels
    from fashion_ml.metrics.garment_mask import Mask


@dataclass(frozen=True)
class Picture:
    """One side of a pair."""

    image: Image.Image
    embedding: torch.Tensor | None = None
    """(D,), L2-normalised; None without an encoder."""
    labels: Labels | None = None
    """None where attributes are not asked for."""
    mask: Mask | None = None
    """None where masks are not asked for, or there is no even background."""
