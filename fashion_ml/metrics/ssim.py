"""Structural similarity of two pictures."""

from __future__ import annotations

from PIL import Image


def ssim(first: Image.Image, second: Image.Image) -> float:
    """Mean SSIM on 8-bit greyscale (ITU-R 601 luma), 7 x 7 window, `data_range` 255, in [-1, 1].

    Pictures of different size are both resized (bicubic) to the smaller height and the smaller width first.
    ValueError when that is below the 7 x 7 window. Wang et al. 2004, doi:10.1109/TIP.2003.819861, as in scikit-image.
    """
    import numpy as np
    from skimage.metrics import structural_similarity

    size = min(first.width, second.width), min(first.height, second.height)
    if min(size) < 7:
        raise ValueError(f"size: {size[0]} x {size[1]} pixels are fewer than the 7 x 7 window of SSIM; use larger pictures")
    grey = [np.asarray(_resized(picture.convert("RGB"), size).convert("L")) for picture in (first, second)]
    return float(structural_similarity(*grey, data_range=255))


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)
