"""Pictures that are the same but for size, compression, brightness, tone, or a mirror, found among many without comparing all pairs."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BITS, _HASH_DISTANCE, _TONE_DISTANCE = 64, 4, 12.0
_MOST_LIGHT = 1.5
"""How many times brighter one of two near-duplicates may be."""
_AT_ONCE = 1 << 22
"""Pairs of hashes compared in one go: 32 MiB."""

Hashes = NDArray[np.uint64]
Thumbnail = NDArray[np.uint8]


def look_of(picture: Image.Image) -> tuple[Hashes, Thumbnail]:
    """Difference hashes of an RGB picture and of its mirror image, (2,), and its thumbnail (32, 32, 3), 0 to 255."""
    return np.array(difference_hashes(picture), dtype=np.uint64), np.array(picture.resize((32, 32), Image.Resampling.BOX))


def difference_hashes(picture: Image.Image) -> tuple[int, int]:
    """64 bits for the picture and for its mirror image: is each pixel of the 9 x 8 greyscale thumbnail darker than its right neighbour."""
    small = picture.convert("L").resize((9, 8), Image.Resampling.BOX)
    grey = np.frombuffer(small.tobytes(), np.uint8).reshape(8, 9)
    plain, mirrored = (
        (one[:, :-1] < one[:, 1:]).ravel() for one in (grey, grey[:, ::-1])
    )  # a mirror's thumbnail is the thumbnail's
    return _number(plain), _number(mirrored)


def _number(bits: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_duplicates(hashes: Hashes, thumbnail: Callable[[int], Thumbnail]) -> list[list[int]]:
    """Groups of indices, sorted: pictures that are the same but for size, compression, brightness, small changes of tone, or a mirror.

    `hashes` (N, 2) are those of each picture and of its mirror image; `thumbnail` gives the one of an index, asked for where hashes are close.
    Candidates share a hash of 64 bits within 4; two of them are near-duplicates when their 32 x 32 thumbnails differ by at
    most 12 of 255 (root mean square over pixels and channels), the darker one brought to the light of the other, as they are or mirrored.
    """
    leader = list(range(len(hashes)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    alone = _one_of_each(hashes, thumbnail, leader)
    for first, second, mirrored in _candidates(hashes[alone]):
        first, second = alone[first], alone[second]
        if find(first) != find(second):
            one, other = thumbnail(first).astype(np.float32), thumbnail(second).astype(np.float32)
            if _distance(one, other[:, ::-1] if mirrored else other) <= _TONE_DISTANCE:
                leader[find(first)] = find(second)
    groups = defaultdict(list)
    for index in range(len(hashes)):
        groups[find(index)].append(index)
    return sorted(groups.values())


def _distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Root mean square of the difference, the darker one multiplied by what brings it nearest to the other, at most by _MOST_LIGHT; what gets
    lighter than white is white."""
    dark, light = (one, other) if one.sum() <= other.sum() else (other, one)
    factor = np.clip(np.sum(dark * light) / max(float(np.sum(dark**2)), 1.0), 1.0, _MOST_LIGHT)
    return float(np.sqrt(np.mean((light - np.minimum(factor * dark, 255)) ** 2)))


def _one_of_each(hashes: Hashes, thumbnail: Callable[[int], Thumbnail], leader: list[int]) -> list[int]:
    """Give pictures that look exactly like an earlier one that as their leader, and return the others: 1,000 copies are a million pairs."""
    _, group, sizes = np.unique(hashes, axis=0, return_inverse=True, return_counts=True)
    first: dict[tuple[int, bytes], int] = {}
    for index, number in enumerate(group.ravel().tolist()):
        if sizes[number] > 1:
            leader[index] = first.setdefault((number, hashlib.sha256(thumbnail(index).tobytes()).digest()), index)
    return [index for index in range(len(hashes)) if leader[index] == index]


def _candidates(hashes: Hashes) -> Iterator[tuple[int, int, bool]]:
    """Pairs of pictures whose hashes are within the distance, and whether that is the second one's mirror image.

    Of five parts of the bits one must be equal where at most four bits differ (multi-index hashing: Norouzi, Punjani, Fleet 2012). A
    part takes every fifth bit, so that all hold bits of the middle: those at the borders are alike in all photos on a plain ground.
    """
    count = len(hashes)
    values = hashes.T.ravel()  # first those of the pictures, then those of the mirror images
    parts = _HASH_DISTANCE + 1
    masks = [sum(1 << bit for bit in range(part, _BITS, parts)) for part in range(parts)]
    for part, mask in enumerate(masks):
        of_part = values & np.uint64(mask)
        order = np.argsort(of_part, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(of_part[order])) + 1):
            plain = bucket[bucket < count]
            if len(plain) == 0 or len(bucket) < 2:
                continue
            for some in np.array_split(plain, -(-len(plain) * len(bucket) // _AT_ONCE)):
                apart = values[some, None] ^ values[None, bucket]
                wanted = np.bitwise_count(apart) <= _HASH_DISTANCE
                wanted &= (some[:, None] < bucket[None]) & (some[:, None] != bucket[None] - count)
                for row, column in np.argwhere(wanted).tolist():
                    bits = int(apart[row, column])
                    if all(bits & earlier for earlier in masks[:part]):  # where one is equal too, the pair has come already
                        other = int(bucket[column])
                        yield int(some[row]), other % count, other >= count
