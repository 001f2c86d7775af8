"""Structural similarity of two pictures."""

from __future__ import annotations

from PIL import Image

from fashion_ml.metrics.sizes import to_common_size

WINDOW = 7
"""Side of the sliding window, pixels; smaller pictures have no SSIM."""


def ssim(first: Image.Image, second: Image.Image) -> float:
    """Mean SSIM on 8-bit greyscale (ITU-R 601 luma), 7 x 7 window, `data_range` 255, in [-1, 1].

    Pictures of different size are both resized (bicubic) to the smaller height and the smaller width first.
    ValueError when that is below the 7 x 7 window. Wang et al. 2004, doi:10.1109/TIP.2003.819861, as in scikit-image.
    """
    import numpy as np
    from skimage.metrics import structural_similarity

    grey = [np.asarray(picture.convert("L")) for picture in to_common_size(first, second)]
    height, width = grey[0].shape
    if min(height, width) < WINDOW:
        raise ValueError(f"size: {width} x {height} pixels are fewer than the 7 x 7 window of SSIM; use larger pictures")
    return float(structural_similarity(*grey, data_range=255))
