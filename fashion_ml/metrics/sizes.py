"""Two pictures brought to one size, as every metric that compares pixel by pixel needs."""

from __future__ import annotations

from PIL import Image


def to_common_size(first: Image.Image, second: Image.Image, limit: int | None = None) -> tuple[Image.Image, Image.Image]:
    """Both as RGB, resized (bicubic) to the smaller height and the smaller width where they differ; with `limit`, pixels, the longer side
    is scaled down to it."""
    size = min(first.width, second.width), min(first.height, second.height)
    if limit is not None and max(size) > limit:
        size = max(round(size[0] * limit / max(size)), 1), max(round(size[1] * limit / max(size)), 1)
    return _resized(first.convert("RGB"), size), _resized(second.convert("RGB"), size)


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)
