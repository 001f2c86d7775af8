"""A split into training and held-out images that does not leak: copies and near-copies of an image stay on one side."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageOps

from fashion_ml.data.captioned_images import CaptionedImage, load_picture

_HASH_DISTANCE = 4
_TONE_DISTANCE = 12.0


def hold_out(items: Sequence[CaptionedImage], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices for training and indices held out: about `share` of the images, at least one when share > 0.

    Groups of near-duplicates are held out whole, those that fit into the share, in an order that depends on `seed` and the images' bytes
    alone, so that adding an image moves no other one's place in that order. ValueError when all images are near-duplicates of each other.
    """
    if share <= 0:
        return list(range(len(items))), []
    groups = near_duplicates(load_picture(item.path) for item in items)
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


def near_duplicates(pictures: Iterable[Image.Image]) -> list[list[int]]:
    """Groups of indices, sorted: pictures that are the same but for size, compression, small changes of tone, or a mirror.

    Candidates share a difference hash of 64 bits within 4; two of them are near-duplicates when their 32 x 32 thumbnails differ by at
    most 12 of 255 (root mean square over pixels and channels), as they are or mirrored.
    """
    hashes, thumbnails = [], []
    for index, picture in enumerate(pictures):
        for mirrored in (False, True):
            turned = ImageOps.mirror(picture) if mirrored else picture
            hashes.append((difference_hash(turned), index, mirrored))
        small = picture.resize((32, 32), Image.Resampling.BOX)
        thumbnails.append(np.asarray(small, dtype=np.float32))
    leader = list(range(len(thumbnails)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for first, second, mirrored in _candidates(hashes):
        if find(first) != find(second):
            other = thumbnails[second][:, ::-1] if mirrored else thumbnails[second]
            if float(np.sqrt(np.mean((thumbnails[first] - other) ** 2))) <= _TONE_DISTANCE:
                leader[find(first)] = find(second)
    groups = defaultdict(list)
    for index in range(len(thumbnails)):
        groups[find(index)].append(index)
    return sorted(groups.values())


def difference_hash(picture: Image.Image) -> int:
    """64 bits: is each pixel of the 9 x 8 greyscale thumbnail darker than its right neighbour."""
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return int("".join("1" if bit else "0" for bit in (grey[:, :-1] < grey[:, 1:]).ravel()), 2)


def _candidates(hashes: Sequence[tuple[int, int, bool]]) -> set[tuple[int, int, bool]]:
    """Pairs within the distance. Of five pieces of the 64 bits one must be equal when at most four bits differ."""
    pieces: dict[tuple[int, int], list[tuple[int, int, bool]]] = defaultdict(list)
    for entry in hashes:
        for piece in range(5):
            pieces[piece, (entry[0] >> (13 * piece)) & 0x1FFF].append(entry)
    found = set()
    for entries in pieces.values():
        plain = [entry for entry in entries if not entry[2]]
        for value, index, _ in plain:
            for other, second, mirrored in entries:
                if index < second and (value ^ other).bit_count() <= _HASH_DISTANCE:
                    found.add((index, second, mirrored))
    return found
