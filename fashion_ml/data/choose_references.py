"""References out of a training folder: spread over its folders and looks, and unlike everything that stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashion_ml.data.images import CaptionedImage, load_unchanged
from fashion_ml.errors import InputError
from fashion_ml.runtime.console import bar
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.seeding import derive_seed

_SIDE = 8
_MOST = 4000
"""Images of one folder that are compared with each other; of more of them the first in a random order."""
Looks = NDArray[np.float32]


@dataclass(frozen=True)
class Chosen:
    """An image that becomes a reference, and why."""

    index: int
    stands_for: int
    """Images of its folder that look more like it than like the other references, itself among them."""
    copies: int
    """Near-duplicates that go with it, for what stays must not show it."""


def choose(items: Sequence[CaptionedImage], groups: Sequence[Sequence[int]], count: int, seed: int) -> list[Chosen]:
    """`count` references among the items, whose near-duplicates are the `groups`; in the order of the items.

    Each folder gives in proportion to its images; of its looks (8 x 8 pixels in colour) a first one is drawn by the seed, then always the
    one that brings the images nearest to a reference (greedy facility location: Nemhauser et al. 1978). A group of near-duplicates gives one
    reference and leaves the training folder whole; groups of one come first. InputError when so many cannot be taken.
    """
    alone = [group for group in groups if len(group) == 1 and items[group[0]].caption]
    together = [group for group in groups if len(group) > 1 and items[group[0]].caption]
    if count >= len(groups) or count > len(alone) + len(together):
        most = min(len(groups) - 1, len(alone) + len(together))
        raise InputError(
            tr(
                "--references: {count}, but of {count_2} images at most {most} can be taken out: near-duplicates go "
                "together, a reference needs a caption, and one image has to stay; give fewer",
                count=count,
                count_2=len(items),
                most=max(most, 0),
            )
        )
    by_folder: dict[str, list[Sequence[int]]] = defaultdict(list)
    wanted = alone if count <= len(alone) else [*alone, *together]
    for group in wanted:
        by_folder[items[group[0]].name.rpartition("/")[0]].append(group)
    shares = _shares({name: len(some) for name, some in by_folder.items()}, count)
    chosen: list[Chosen] = []
    with bar(tr("look at images"), sum(len(some) for name, some in by_folder.items() if shares[name])) as progress:
        for name, some in sorted(by_folder.items()):
            if shares[name]:
                order = np.random.default_rng(derive_seed(seed, f"references of {name}")).permutation(len(some))
                few = [some[index] for index in order[:_MOST]]
                looks = np.stack([look(load_unchanged(items[group[0]])) for group in few])
                progress.advance(len(some))
                for row, stands_for in _spread(looks, shares[name]):
                    chosen.append(Chosen(few[row][0], stands_for, len(few[row]) - 1))
    return sorted(chosen, key=lambda one: one.index)


def look(picture: Image.Image) -> NDArray[np.float32]:
    """The colours of a picture in 8 x 8 fields, (192,), 0 to 1."""
    return np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float32).ravel() / np.float32(255)


def _shares(sizes: dict[str, int], count: int) -> dict[str, int]:
    """How many of each folder: in proportion to its size, the largest remainders first (Hamilton), at most what it has."""
    total = sum(sizes.values())
    exact = {name: count * size / total for name, size in sizes.items()}
    shares = {name: min(int(value), sizes[name]) for name, value in exact.items()}
    for name in sorted(sizes, key=lambda one: (shares[one] - exact[one], one)):
        if sum(shares.values()) < count and shares[name] < sizes[name]:
            shares[name] += 1
    return shares


def _spread(looks: Looks, count: int) -> list[tuple[int, int]]:
    """Rows that stand for the others, and how many each stands for; the first row is among them."""
    squares = (looks**2).sum(1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * looks @ looks.T, 0))
    rows, nearest = [0], apart[0].copy()
    while len(rows) < count:
        gains = np.maximum(nearest[None] - apart, 0).sum(1)
        gains[rows] = -1
        rows.append(int(gains.argmax()))
        nearest = np.minimum(nearest, apart[rows[-1]])
    owners = apart[rows].argmin(0)
    return [(row, int((owners == place).sum())) for place, row in enumerate(rows)]
