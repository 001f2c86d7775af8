"""Colour agreement of two pictures by their joint histograms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

BINS = 32


def rgb_histogram(picture: Image.Image) -> npt.NDArray[np.float64]:
    """Counts over 32 x 32 x 32 RGB bins of width 8, upper edge 256 exclusive; shape (32768,)."""
    pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(np.int64) // (256 // BINS)
    index = (pixels[:, 0] * BINS + pixels[:, 1]) * BINS + pixels[:, 2]
    return np.bincount(index, minlength=BINS**3).astype(np.float64)


def histogram_correlation(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Pearson correlation of two histograms of equal shape, in [-1, 1]; 1.0 where one is flat, as OpenCV's HISTCMP_CORREL.

    ValueError for different shapes.
    """
    if first.shape != second.shape:
        raise ValueError(f"shape: {first.shape} and {second.shape} differ; compare histograms with the same bins")
    a, b = first - first.mean(), second - second.mean()
    spread = float((a @ a) * (b @ b))
    return float(a @ b) / spread**0.5 if spread > np.finfo(np.float64).eps else 1.0


def color_correlation(first: Image.Image, second: Image.Image) -> float:
    """Pearson correlation of the two joint RGB histograms (32 bins an axis), in [-1, 1]; sizes may differ."""
    return histogram_correlation(rgb_histogram(first), rgb_histogram(second))
