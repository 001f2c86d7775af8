"""Colour agreement of two pictures by their joint histograms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

BINS = 32
PARAMETERS = {"bins": BINS}
"""What decides its numbers."""
_SHIFT = 3
"""256 / 32 levels in a bin: the top five bits of a level are its bin."""


def rgb_histogram(picture: Image.Image, mask: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.float64]:
    """Counts over 32 x 32 x 32 RGB bins of width 8, upper edge 256 exclusive; shape (32768,). With a mask (H, W) only where it is True."""
    array = np.asarray(picture.convert("RGB"))
    pixels = (array.reshape(-1, 3) if mask is None else array[mask]) >> _SHIFT
    index = pixels[:, 0].astype(np.int32) << 10
    index |= pixels[:, 1].astype(np.int32) << 5
    index |= pixels[:, 2]
    return np.bincount(index, minlength=BINS**3).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Colors:
    """One picture's histogram, made ready for correlations with others."""

    centred: npt.NDArray[np.float64]
    """Counts less their mean."""
    energy: float
    """The sum of the squares of these."""


def colors_of(histogram: npt.NDArray[np.float64]) -> Colors:
    """What a correlation needs of a histogram, whatever it is compared with."""
    centred = histogram - histogram.mean()
    return Colors(centred, float(centred @ centred))


def histogram_correlation(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Pearson correlation of two histograms of equal shape, in [-1, 1]; 1.0 where one is flat, as OpenCV's HISTCMP_CORREL.

    ValueError for different shapes.
    """
    if first.shape != second.shape:
        raise ValueError(f"shape: {first.shape} and {second.shape} differ; compare histograms with the same bins")
    return correlation_of_colors(colors_of(first), colors_of(second))


def correlation_of_colors(first: Colors, second: Colors) -> float:
    """`histogram_correlation` of two histograms of equal shape."""
    spread = first.energy * second.energy
    return float(first.centred @ second.centred) / spread**0.5 if spread > np.finfo(np.float64).eps else 1.0


def color_correlation(first: Image.Image, second: Image.Image) -> float:
    """Pearson correlation of the two joint RGB histograms (32 bins an axis), in [-1, 1]; sizes may differ."""
    return histogram_correlation(rgb_histogram(first), rgb_histogram(second))


def color_correlation_masked(
    first: Image.Image, second: Image.Image, first_mask: npt.NDArray[np.bool_], second_mask: npt.NDArray[np.bool_]
) -> float:
    """As color_correlation, over the garments alone: a white background that both share counts for nothing."""
    return histogram_correlation(rgb_histogram(first, first_mask), rgb_histogram(second, second_mask))
