"""A split into training and held-out images that does not leak: copies and near-copies of an image stay on one side."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fashion_ml.data.images import CaptionedImage, load_unchanged
from fashion_ml.data.tensor_cache import TensorCache, key_of
from fashion_ml.errors import InputError
from fashion_ml.runtime.console import bar

_BITS, _HASH_DISTANCE, _TONE_DISTANCE = 64, 4, 12.0
_AT_ONCE = 1 << 22
"""Pairs of hashes compared in one go: 32 MiB."""

Hashes = NDArray[np.uint64]
Thumbnail = NDArray[np.uint8]


def hold_out(
    items: Sequence[CaptionedImage], share: float, seed: int, cache: TensorCache | None = None
) -> tuple[list[int], list[int]]:
    """Indices for training and indices held out: about `share` of the images, at least one when share > 0.

    Groups of near-duplicates are held out whole, those that fit into the share, in an order that depends on `seed` and the images' bytes
    alone, so that adding an image moves no other one's place in that order. What images look like is kept in `cache`, under the hash of
    their bytes. ValueError when all images are near-duplicates of each other, InputError when a file has changed since it was checked.
    """
    if share <= 0:
        return list(range(len(items))), []
    groups = _groups_of(items, cache if cache is not None else TensorCache())
    if len(groups) < 2:
        raise ValueError("all images are near-duplicates of each other, so none can be held out")

    def place(group: list[int]) -> str:
        first = min(items[index].sha256 for index in group)
        return hashlib.sha256(f"{seed}/{first}".encode()).hexdigest()

    wanted = max(round(share * len(items)), 1)
    fitting = [group for group in groups if len(group) <= wanted] or [min(groups, key=lambda one: (len(one), place(one)))]
    held: list[int] = []
    for group in sorted(fitting, key=place):
        if (not held or len(held) + len(group) <= wanted) and len(held) + len(group) < len(items):
            held += group
        if len(held) >= wanted:
            break
    kept = sorted(set(range(len(items))) - set(held))
    return kept, sorted(held)


def _groups_of(items: Sequence[CaptionedImage], cache: TensorCache) -> list[list[int]]:
    def look(index: int) -> dict[str, torch.Tensor]:
        key = key_of(near_duplicates=1, image=items[index].sha256)
        found = cache.get(key)
        if found is None:
            hashes, thumbnail = look_of(load_unchanged(items[index]))
            found = {"hashes": torch.from_numpy(hashes.view(np.int64)), "thumbnail": torch.from_numpy(thumbnail)}
            with suppress(InputError):  # it saves time, no more: a cache that is only read is one too
                cache.put(key, found)
        return found

    hashes = np.empty((len(items), 2), dtype=np.uint64)
    with bar("look for near-duplicates", len(items)) as progress:
        for index in range(len(items)):
            hashes[index] = look(index)["hashes"].numpy().view(np.uint64)
            progress.advance()
    return near_duplicates(hashes, lambda index: look(index)["thumbnail"].numpy())


def look_of(picture: Image.Image) -> tuple[Hashes, Thumbnail]:
    """Difference hashes of an RGB picture and of its mirror image, (2,), and its thumbnail (32, 32, 3), 0 to 255."""
    hashes = np.array([difference_hash(picture), difference_hash(ImageOps.mirror(picture))], dtype=np.uint64)
    return hashes, np.array(picture.resize((32, 32), Image.Resampling.BOX))


def difference_hash(picture: Image.Image) -> int:
    """64 bits: is each pixel of the 9 x 8 greyscale thumbnail darker than its right neighbour."""
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return int("".join("1" if bit else "0" for bit in (grey[:, :-1] < grey[:, 1:]).ravel()), 2)


def near_duplicates(hashes: Hashes, thumbnail: Callable[[int], Thumbnail]) -> list[list[int]]:
    """Groups of indices, sorted: pictures that are the same but for size, compression, small changes of tone, or a mirror.

    `hashes` (N, 2) are those of each picture and of its mirror image; `thumbnail` gives the one of an index, asked for where hashes are close.
    Candidates share a hash of 64 bits within 4; two of them are near-duplicates when their 32 x 32 thumbnails differ by at
    most 12 of 255 (root mean square over pixels and channels), as they are or mirrored.
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
            if float(np.sqrt(np.mean((one - (other[:, ::-1] if mirrored else other)) ** 2))) <= _TONE_DISTANCE:
                leader[find(first)] = find(second)
    groups = defaultdict(list)
    for index in range(len(hashes)):
        groups[find(index)].append(index)
    return sorted(groups.values())


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
