import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from fashion_ml.metrics.color import color_correlation, histogram_correlation
from fashion_ml.metrics.ssim import ssim

RNG = np.random.default_rng(0)


def noise(height=40, width=30):
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


def blocks(seed, size=(48, 48)):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 4, (4, 4, 3), dtype=np.uint8) * 60)
    return small.resize(size, Image.Resampling.NEAREST)


def flat(value, size=(32, 32)):
    return Image.new("RGB", size, (value, value, value))


def opencv_correlation(first, second):
    # flattened: the binding reads an (a, b, c) array as a 2-D matrix of c channels and then counts a * b bins only
    histograms = [
        cv2.calcHist([np.asarray(p.convert("RGB"))], [0, 1, 2], None, [32, 32, 32], [0, 256, 0, 256, 0, 256]).ravel()
        for p in (first, second)
    ]
    return cv2.compareHist(*histograms, cv2.HISTCMP_CORREL)


PAIRS = {
    "random": (noise(), noise()),
    "blocks": (blocks(1), blocks(2)),
    "nearly_equal": (blocks(1), Image.blend(blocks(1), blocks(2), 0.1)),
    "equal": (noise(),) * 2,
    "flat_and_equal": (flat(0), flat(0)),
    "flat_and_different": (flat(0), flat(255)),
    "black_and_noise": (flat(0), noise()),
    "different_size": (noise(40, 30), noise(64, 50)),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_color_correlation_is_opencvs(pair):
    assert color_correlation(*pair) == pytest.approx(opencv_correlation(*pair), abs=1e-6)


def test_a_histogram_without_spread_correlates_to_one_as_in_opencv():
    level, other = np.full(512, 3, np.float32), np.zeros(512, np.float32)
    other[0] = 5
    expected = cv2.compareHist(level, other, cv2.HISTCMP_CORREL)
    assert expected == 1.0
    assert histogram_correlation(level.astype(float), other.astype(float)) == expected


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_ssim_is_skimages_on_luma_at_the_smaller_size(pair):
    size = tuple(min(sides) for sides in zip(pair[0].size, pair[1].size, strict=True))
    resized = [np.asarray(p if p.size == size else p.resize(size, Image.Resampling.BICUBIC)) for p in pair]
    grey = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in resized]
    assert ssim(*pair) == pytest.approx(structural_similarity(*grey, data_range=255), abs=1e-6)


@pytest.mark.parametrize("window", [3, 5, 9, 11])
def test_ssim_of_another_window_is_skimages_too(window: int, monkeypatch: pytest.MonkeyPatch):
    """White on black fills the sums of the largest window that 32 bits hold."""
    monkeypatch.setattr("fashion_ml.metrics.ssim.WINDOW", window)
    for first, second in ((noise(), noise()), (flat(255, (30, 30)), noise(30, 30))):
        grey = [cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2GRAY) for picture in (first, second)]
        assert ssim(first, second) == pytest.approx(structural_similarity(*grey, data_range=255, win_size=window), abs=1e-6)


def test_equal_pictures_score_one_on_both():
    picture = noise()
    assert ssim(picture, picture) == pytest.approx(1, abs=1e-12)
    assert color_correlation(picture, picture) == pytest.approx(1, abs=1e-12)


def test_ssim_takes_the_smaller_height_and_the_smaller_width():
    assert ssim(flat(9, (50, 20)), flat(9, (20, 50))) == pytest.approx(1)


def test_ssim_refuses_pictures_below_its_window():
    with pytest.raises(ValueError, match="6 x 9 pixels are fewer than the 7 x 7 window"):
        ssim(flat(0, (6, 9)), flat(0, (20, 20)))


def test_histograms_with_other_bins_are_refused():
    with pytest.raises(ValueError, match="compare histograms with the same bins"):
        histogram_correlation(np.zeros(8), np.zeros(9))
