"""Structural similarity of two pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from fashion_ml.metrics.sizes import to_common_size
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

WINDOW = 7
"""Side of the sliding window, pixels, odd, from 3 to 11 (sums of larger ones do not fit 32 bits); smaller pictures have no SSIM. Another side
makes other numbers: raise the metric's version in the registry."""
PARAMETERS = {"of": "8-bit ITU-R 601 luma", "window": WINDOW, "data_range": 255}
"""What decides its numbers."""
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


@dataclass(frozen=True, eq=False)
class Windows:
    """One picture of a pair, with everything that every window of SSIM needs of it alone."""

    luma: npt.NDArray[np.int32]
    """(H, W), 0 to 255."""
    sums: npt.NDArray[np.int32]
    """Over every whole window."""
    squares: npt.NDArray[np.int32]
    """Sums of the squares over every whole window."""


def ssim(first: Image.Image, second: Image.Image) -> float:
    """Mean SSIM on 8-bit greyscale (ITU-R 601 luma), a window of WINDOW x WINDOW, data range 255, in [-1, 1].

    Pictures of different size are both resized (bicubic) to the smaller height and the smaller width first. ValueError when that is below the
    window. Wang et al. 2004, doi:10.1109/TIP.2003.819861, with the sample covariance and the border of scikit-image's
    `structural_similarity`, whose value it equals: of 8-bit pictures every sum over a window is a whole number, so that they are exact.
    """
    a, b = to_common_size(first, second)
    return ssim_of_windows(windows_of(a), windows_of(b))


def windows_of(picture: Image.Image) -> Windows:
    """What SSIM needs of an RGB picture, whatever it is compared with. ValueError when it is smaller than the window."""
    import numpy as np

    luma = _luma(np.asarray(picture, dtype=np.int32))
    height, width = luma.shape
    if min(height, width) < WINDOW:
        raise ValueError(
            tr(
                "size: {width} x {height} pixels are fewer than the {window} x {window} window of SSIM; use larger pictures",
                width=width,
                height=height,
                window=WINDOW,
            )
        )
    return Windows(luma, _window_sums(luma), _window_sums(luma * luma))


def ssim_of_windows(first: Windows, second: Windows) -> float:
    """`ssim` of two pictures of one size."""
    n = WINDOW * WINDOW
    # n^2 times the means' products, n (n - 1) times the covariance and the variances: all below 2^31
    product, squares = first.sums * second.sums, first.sums * first.sums + second.sums * second.sums
    covariance = n * _window_sums(first.luma * second.luma) - product
    variances = n * (first.squares + second.squares) - squares
    c1, c2 = _C1 * n * n, _C2 * n * (n - 1)
    return float(((2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))).mean())


def _luma(rgb: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """ITU-R 601 luma of 8-bit RGB (H, W, 3), rounded as OpenCV's RGB2GRAY does: (H, W), 0 to 255."""
    return (9798 * rgb[..., 0] + 19235 * rgb[..., 1] + 3735 * rgb[..., 2] + (1 << 14)) >> 15


def _window_sums(values: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Sums over every whole window: (H, W) -> (H - WINDOW + 1, W - WINDOW + 1)."""
    return _sums_downwards(_sums_downwards(values).T).T


def _sums_downwards(values: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Sums of WINDOW numbers below each other, two at a time: (H, W) -> (H - WINDOW + 1, W)."""
    count, pairs = len(values) - WINDOW + 1, values[:-1] + values[1:]
    total = pairs[:count]
    for first in range(2, WINDOW - 1, 2):
        total = total + pairs[first : first + count]
    return total + values[WINDOW - 1 :]
