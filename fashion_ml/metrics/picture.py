"""A picture with everything about it that metrics need, so that it is worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from fashion_ml.metrics.attributes import Labels
    from fashion_ml.metrics.color import Colors
    from fashion_ml.metrics.garment_mask import Mask
    from fashion_ml.metrics.ssim import Windows


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
    dino: torch.Tensor | None = None
    """(D,), L2-normalised class token of a DINOv2; None without one."""

    @cached_property
    def windows(self) -> Windows:
        """What SSIM needs of it; worked out when it is first asked for, and once for all that it is compared with."""
        from fashion_ml.metrics.ssim import windows_of

        return windows_of(self.image.convert("RGB"))

    @cached_property
    def colors(self) -> Colors:
        """What the correlation of colours needs of it, as `windows`."""
        from fashion_ml.metrics.color import colors_of, rgb_histogram

        return colors_of(rgb_histogram(self.image))
