"""Two halves of the references: what a search has seen, and what it has not. One garment is never in both."""

from __future__ import annotations

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeVar

from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.latent_domains import MIRRORED, LatentSet
from fashion_ml.data.split import alike
from fashion_ml.data.tensor_cache import TensorCache
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr

Item = TypeVar("Item")
Part = Literal["all", "search", "held"]
_SEED = 20261126
"""Of the drawing; another one would make other halves of every folder."""
_WORDS = "front|back|rear|side|left|right|detail|close-?up|flat|model|worn|additional|full|view|angle|zoom|mirror(?:ed)?|flip(?:ped)?|crop|copy"
_VIEW = re.compile(
    rf"(?:(?<=\d\d)_\d_(?:{_WORDS})\d*"  # 02_1_front
    rf"|(?:^|[ ._-]+)(?:{_WORDS})[ ._-]?\d*"  # coat_front, coat-view-2, a folder's front
    r"|[ ._-]*\(\d+\)"  # coat (2)
    r"|(?<=\d)(?:[a-d]|[_-]\d))+$",  # 0001a, coat_01_2
    re.IGNORECASE,
)
"""The end of a file's name that says which view of the garment it is."""


def part_of(references: Sequence[CaptionedImage], part: Part, cache: TensorCache | None = None) -> list[CaptionedImage]:
    """All of them, or one of two halves in the given order, which is said; the same halves for the same references.

    What shows one garment (`one_garment`) is on one side. Of an odd number `search` has one more, where the groups allow it. What images look
    like is kept in `cache`.
    """
    if part == "all":
        return list(references)
    groups = one_garment(references, cache)
    chosen = choose_part(references, groups, part)
    together = sum(len(group) > 1 for group in groups)
    kept = (
        tr("; {together} groups of pictures that show one garment are on one side each", together=together) if together else ""
    )
    say(
        tr(
            "{count} of {count_2} references are used, the half called {part} (evaluation.references_part){kept}",
            count=len(chosen),
            count_2=len(references),
            part=part,
            kept=kept,
        )
    )
    return chosen


def one_garment(references: Sequence[CaptionedImage], cache: TensorCache | None = None) -> list[list[int]]:
    """Groups of indices, sorted: near-duplicates, pictures whose names differ by a view alone (`coat_front`, `coat_back`), and pictures with
    the same caption.

    A name or a caption that more than a quarter of the pictures share, and more than two, is that of a class and joins nothing.
    """
    joined = alike(references, cache if cache is not None else TensorCache()) if references else []
    most = max(2, len(references) // 4)
    for keys in ([garment_of(one.name) for one in references], [one.caption.strip().casefold() for one in references]):
        joined += [group for group in _same(keys) if len(group) <= most]
    return _united(joined, len(references))


def garment_of(name: str) -> str:
    """A picture's name without its ending and without what says which view it is: `a/coat_front.png` is `a/coat`, `a/front.png` is `a/`."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{_VIEW.sub('', file.rpartition('.')[0] or file)}".casefold()


def choose_part(items: Sequence[Item], groups: Sequence[Sequence[int]], part: Literal["search", "held"]) -> list[Item]:
    """One of two halves of items, in their order, whose `groups` of indices stay whole; the halves are as even as the groups allow.

    Groups come in an order that is drawn with a fixed seed, and `search` takes each that leaves its half reachable.
    """
    searched = _searched(groups, (len(items) + 1) // 2)
    return [one for index, one in enumerate(items) if (index in searched) == (part == "search")]


def part_of_held(latents: LatentSet, held: Sequence[Sequence[int]], part: Part) -> list[list[int]]:
    """Of the latents that are held out, by domain, all, or one of two halves of each domain's.

    Latents that are equal, that are of mirrored pictures, whose names differ by a view alone, or are the same in two domains, are on one side:
    pictures, by which near-duplicates would be found, there are none of them.
    """
    if part == "all":
        return [list(indices) for indices in held]
    sides: dict[str, bool] = {}
    chosen = []
    for domain, indices in zip(latents.domains, held, strict=True):
        names = [garment_of(f"{domain.files[index].removesuffix(MIRRORED)}.") for index in indices]
        bytes_of = [hashlib.sha256(latent.numpy().tobytes()).hexdigest() for latent in domain.take(indices)] if indices else []
        groups = _united([*_same(names), *_same(bytes_of)], len(indices))
        known = {index: side for group in groups if (side := _side(sides, group, names)) is not None for index in group}
        new = [group for group in groups if group[0] not in known]
        searched = _searched(new, max((len(indices) + 1) // 2 - sum(known.values()), 0))
        searched |= {index for index, side in known.items() if side}
        sides |= {name: place in searched for place, name in enumerate(names)}
        chosen.append([index for place, index in enumerate(indices) if (place in searched) == (part == "search")])
    return chosen


def _side(sides: Mapping[str, bool], group: Sequence[int], names: Sequence[str]) -> bool | None:
    """The side that a garment of the group has in a domain before; None where it has none."""
    return next((sides[names[index]] for index in group if names[index] in sides), None)


def _searched(groups: Sequence[Sequence[int]], half: int) -> set[int]:
    """The indices of groups, drawn, that are as near to `half` in number as the groups allow; rather one more than one less."""
    order, count = list(groups), sum(map(len, groups))
    random.Random(_SEED).shuffle(order)
    reachable = [1]  # bit n: n indices can be made up of the last groups
    for group in reversed(order):
        reachable.append(reachable[-1] | reachable[-1] << len(group))
    reachable.reverse()
    left = min((n for n in range(count + 1) if reachable[0] >> n & 1), key=lambda n: (abs(n - half), -n))
    found = set[int]()
    for group, after in zip(order, reachable[1:], strict=True):
        if len(group) <= left and after >> (left - len(group)) & 1:
            found.update(group)
            left -= len(group)
    return found


def _same(keys: Iterable[str]) -> list[list[int]]:
    found = defaultdict(list)
    for index, key in enumerate(keys):
        if key:
            found[key].append(index)
    return list(found.values())


def _united(joined: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """The groups of 0 to count - 1 in which all that are joined are together."""
    leader = list(range(count))

    def find(index: int) -> int:
        while leader[index] != index:
            index = leader[index]
        return index

    for group in joined:
        for index in group[1:]:
            first, second = sorted((find(group[0]), find(index)))
            leader[second] = first
    found = defaultdict(list)
    for index in range(count):
        found[find(index)].append(index)
    return sorted(found.values())
