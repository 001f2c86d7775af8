"""Colour difference of two garments as people see it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from fashion_ml.metrics.garment_mask import SIDE, Mask
from fashion_ml.metrics.sizes import to_common_size

_LEAST = 0.01
"""Both garments share at least this part of the picture."""
PARAMETERS = {"formula": "scikit-image deltaE_ciede2000", "least": _LEAST, "side": SIDE}
"""What decides its numbers, beside the masks."""


def ciede2000(first: Image.Image, second: Image.Image, first_mask: Mask, second_mask: Mask) -> float | None:
    """Mean CIEDE2000 difference (0 equal, about 1 just visible, 100 black to white) over the pixels where both show the garment.

    Pictures are brought to the smaller height and width, and to at most 256 pixels a side, first. None where both garments share
    less than 1 % of the picture. Sharma et al. 2005, doi:10.1002/col.20070, as in scikit-image.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    a, b = to_common_size(first, second, limit=SIDE)
    shared = _scaled(first_mask, a.size) & _scaled(second_mask, a.size)
    if shared.mean() < _LEAST:
        return None
    lab = [rgb2lab(np.asarray(picture)[shared][None]) for picture in (a, b)]
    return float(deltaE_ciede2000(*lab).mean())


def _scaled(mask: Mask, size: tuple[int, int]) -> Mask:
    if mask.shape == (size[1], size[0]):
        return mask
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST), dtype=bool)
