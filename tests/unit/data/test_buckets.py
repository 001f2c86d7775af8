from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashion_ml.data.buckets import bucket_sizes, nearest_bucket, own_bucket


def test_the_buckets_of_512_by_hand():
    """512^2 = 262,144: 256 wide allows 1,024 high; 320: 819 -> 768; 384: 682 -> 640; 448: 585 -> 576; 512: 512; 576: 455 -> 448; ..."""
    wide = [(512, 512), (576, 448), (640, 384), (704, 320), (768, 320), (832, 256), (896, 256), (960, 256), (1024, 256)]
    assert bucket_sizes(512, 64) == sorted({*wide, *((h, w) for w, h in wide)})


@given(st.integers(1, 16), st.sampled_from([32, 64]))
def test_every_bucket_fits_the_area_and_the_step(count: int, step: int):
    resolution = count * step
    buckets = bucket_sizes(resolution, step)
    assert (resolution, resolution) in buckets
    assert all(w * h <= resolution * resolution and w % step == h % step == 0 for w, h in buckets)
    assert {(h, w) for w, h in buckets} == set(buckets)


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((1000, 1000), (512, 512)),
        ((3000, 2000), (640, 384)),  # 1.5: 640/384 = 1.667 (log distance 0.105), 576/448 = 1.286 (0.154)
        ((2000, 3000), (384, 640)),
        ((10, 5000), (256, 1024)),
        ((1900, 1000), (640, 384)),  # 1.9: 640/384 = 1.667 (0.131), 704/320 = 2.2 (0.147)
    ],
)
def test_the_nearest_ratio_is_chosen(size: tuple[int, int], bucket: tuple[int, int]):
    assert nearest_bucket(size, bucket_sizes(512, 64)) == bucket


def test_without_upscaling_a_small_image_keeps_its_size_and_a_large_one_is_scaled_down():
    """700 x 300 is below 512^2: floored to 640 x 256. 2048 x 1024 scaled by 512 / 1448 is 724 x 362: 704 x 320."""
    assert own_bucket((700, 300), 512, 64) == (640, 256)
    assert own_bucket((2048, 1024), 512, 64) == (704, 320)
    assert own_bucket((512, 512), 512, 64) == (512, 512)
    assert own_bucket((20, 700), 512, 64) == (64, 640)
