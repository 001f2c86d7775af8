"""Aspect-ratio buckets: image sizes of about one area, so that pictures of every shape are trained on with little cropping."""

from __future__ import annotations

import math
from collections.abc import Sequence

Size = tuple[int, int]
"""Width and height, pixels."""


def bucket_sizes(resolution: int, step: int, shortest: int | None = None, longest: int | None = None) -> list[Size]:
    """Every size whose sides are multiples of `step` and whose area is the largest that is at most resolution squared.

    For each width the tallest height that fits, and the same turned; sides between `shortest` (default half the resolution) and
    `longest` (default twice the resolution). Sorted; the square of `resolution` is among them.
    """
    low = max(_floor(shortest or resolution // 2, step), step)
    high = max(_floor(longest or resolution * 2, step), low)
    sizes = {(resolution, resolution)}
    for side in range(low, high + 1, step):
        other = min(_floor(resolution * resolution // side, step), high)
        if other >= low:
            sizes |= {(side, other), (other, side)}
    return sorted(sizes)


def nearest_bucket(size: Size, buckets: Sequence[Size]) -> Size:
    """The bucket whose ratio of width to height is nearest on a logarithmic scale; among equals the one of larger area."""
    ratio = math.log(size[0] / size[1])
    return min(buckets, key=lambda bucket: (round(abs(math.log(bucket[0] / bucket[1]) - ratio), 9), -bucket[0] * bucket[1]))


def own_bucket(size: Size, resolution: int, step: int) -> Size:
    """The image's own size, scaled down (never up) to an area of at most resolution squared, sides floored to multiples of `step`.

    An image with a side shorter than `step` is scaled up to it all the same: no model takes less.
    """
    scale = min(1.0, resolution / math.sqrt(size[0] * size[1]))
    width, height = (max(_floor(int(side * scale + 1e-6), step), step) for side in size)
    return width, height


def image_sizes(
    sizes: Sequence[Size],
    *,
    resolution: int,
    step: int,
    enabled: bool,
    no_upscale: bool = False,
    shortest: int | None = None,
    longest: int | None = None,
) -> list[Size]:
    """The size that each image is trained and measured at: the square of `resolution`, or with `enabled` the nearest bucket.

    With `no_upscale` an image that is smaller than its bucket keeps its own size, floored to the step.
    """
    if not enabled:
        return [(resolution, resolution)] * len(sizes)
    buckets, found = bucket_sizes(resolution, step, shortest, longest), []
    for size in sizes:
        bucket = nearest_bucket(size, buckets)
        small = size[0] < bucket[0] or size[1] < bucket[1]
        found.append(own_bucket(size, resolution, step) if no_upscale and small else bucket)
    return found


def _floor(value: int, step: int) -> int:
    return value // step * step
