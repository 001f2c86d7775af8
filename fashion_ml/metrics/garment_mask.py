"""Where the garment is, by a simple rule: what is not the background that runs round the border of the picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Mask = npt.NDArray[np.bool_]

NEAR = 12.0
"""Colours within this distance (CIE 1976 delta E) of the background are background."""
_EVEN = 0.6
"""At least this share of the border must be near the background model, else there is no even background to remove."""
_LEAST = 0.01
"""A garment covers at least this share of the picture."""
SIDE = 256
"""Masks are found, and colours compared, at no more pixels a side."""
_RIM = 0.02
"""The border is this share of the shorter side wide."""
PARAMETERS = {"near": NEAR, "even": _EVEN, "least": _LEAST, "side": SIDE, "rim": _RIM}
"""What decides where the garment is."""


def garment_mask(picture: Image.Image) -> Mask | None:
    """True on the garment, shape (H, W); None where the picture has no even background round its border, or nothing stands out.

    The background is a plane in CIELAB over x and y (so that a lit wall with a gradient is one background), fitted to the border, twice:
    the second time without the border pixels that are far from the first fit. Background are the pixels near the plane that hang together
    with the border; everything else, holes included, is garment. Found at no more than 256 pixels a side and scaled back.
    """
    from skimage.color import rgb2lab
    from skimage.measure import label

    scale = min(1.0, SIDE / max(picture.size))
    size = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
    small = picture.convert("RGB").resize(size, Image.Resampling.BOX)
    lab = rgb2lab(np.asarray(small))
    height, width = lab.shape[:2]
    rim = max(round(_RIM * min(height, width)), 1)
    border = np.ones((height, width), bool)
    border[rim : height - rim, rim : width - rim] = False

    y, x = np.mgrid[0:height, 0:width]
    plane = np.stack([np.ones(height * width), x.ravel() / width, y.ravel() / height], 1)
    chosen = border.ravel()
    for _ in range(2):
        coefficients, *_ = np.linalg.lstsq(plane[chosen], lab.reshape(-1, 3)[chosen], rcond=None)
        distance = np.linalg.norm(lab - (plane @ coefficients).reshape(lab.shape), axis=2)
        limit = max(NEAR, float(np.median(distance[border])))
        chosen = border.ravel() & (distance.ravel() <= limit)
    near = distance <= NEAR
    if near[border].mean() < _EVEN:
        return None
    parts = label(near, connectivity=1)
    outside = np.isin(parts, np.unique(parts[border & near]))
    mask = ~outside
    if not _LEAST <= mask.mean() <= 1 - _LEAST:
        return None
    full = Image.fromarray(mask).resize(picture.size, Image.Resampling.NEAREST)
    return np.asarray(full, dtype=bool)
