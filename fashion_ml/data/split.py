"""A split into training and held-out images that does not leak: copies and near-copies of an image stay on one side."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext, suppress

import numpy as np
import torch
from numpy.typing import NDArray

from fashion_ml.data.images import CaptionedImage, load_unchanged
from fashion_ml.data.near_duplicates import look_of, near_duplicates
from fashion_ml.data.picture_modes import PIXELS
from fashion_ml.data.tensor_cache import TensorCache, key_of
from fashion_ml.errors import InputError
from fashion_ml.runtime.console import Bar, bar
from fashion_ml.runtime.language import tr

_MANY, _MANY_OPENED = 1000, 100
"""Images that take so long to look at that it is shown, and to open."""


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
    groups = alike(items, cache if cache is not None else TensorCache())
    if len(groups) < 2:
        raise ValueError(tr("all images are near-duplicates of each other, so none can be held out"))

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


def alike(items: Sequence[CaptionedImage], cache: TensorCache) -> list[list[int]]:
    """Groups of indices, sorted: near-duplicates of each other, and copies. What was found for the same images before is in the `cache`.

    InputError when a file that has to be looked at again has changed since it was checked.
    """
    content = hashlib.sha256("\n".join(item.sha256 for item in items).encode()).hexdigest()
    key = key_of(near_duplicate_groups=3, images=content)
    found = cache.get(key)
    if found is None:
        groups = _found_alike(items, cache)
        first = torch.zeros(len(items), dtype=torch.int64)
        for group in groups:
            first[group] = group[0]
        with suppress(InputError):  # it saves time, no more: a cache that is only read is one too
            cache.put(key, {"first": first})
        return groups
    together = defaultdict(list)
    for index, leader in enumerate(found["first"].tolist()):
        together[leader].append(index)
    return sorted(together.values())


def _found_alike(items: Sequence[CaptionedImage], cache: TensorCache) -> list[list[int]]:
    def look(index: int) -> dict[str, torch.Tensor]:
        key = key_of(near_duplicates=PIXELS, image=items[index].sha256)
        found = cache.get(key)
        if found is None:
            hashes, thumbnail = look_of(load_unchanged(items[index]))
            found = {"hashes": torch.from_numpy(hashes.view(np.int64)), "thumbnail": torch.from_numpy(thumbnail)}
            with suppress(InputError):
                cache.put(key, found)
        return found

    copies = defaultdict(list)
    for index, item in enumerate(items):
        copies[item.sha256].append(index)
    alone = [indices[0] for indices in copies.values()]
    hashes = np.empty((len(alone), 2), dtype=np.uint64)
    unknown = [row for row, index in enumerate(alone) if not items[index].hashes]
    with bar(tr("look for near-duplicates"), len(unknown)) if len(unknown) >= _MANY else nullcontext() as progress:
        for row, index in enumerate(alone):
            hashes[row] = items[index].hashes or look(index)["hashes"].numpy().view(np.uint64)
            if progress is not None and not items[index].hashes:
                progress.advance()
    with ExitStack() as stack:
        shown: list[Bar] = []

        def thumbnail(row: int) -> NDArray[np.uint8]:
            if key_of(near_duplicates=PIXELS, image=items[alone[row]].sha256) not in cache:
                opened.append(row)
                if len(opened) == _MANY_OPENED:
                    shown.append(stack.enter_context(bar(tr("compare near-duplicates"), len(alone), len(opened))))
                elif shown:
                    shown[0].advance()
            return look(alone[row])["thumbnail"].numpy()

        opened: list[int] = []
        groups = near_duplicates(hashes, thumbnail)
    return sorted(sorted(index for row in group for index in copies[items[alone[row]].sha256]) for group in groups)
