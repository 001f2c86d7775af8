"""Two halves of the references: what a search has seen, and what it has not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, TypeVar

from fashion_ml.runtime.console import say

Item = TypeVar("Item")
_SEED = 20261126
"""Of the drawing; another one would make other halves of every folder."""


def part_of(references: Sequence[Item], part: Literal["all", "search", "held"]) -> list[Item]:
    """All of them, or one of two halves in the given order, which is said; the same halves for as many references.

    Of an odd number `search` has one more.
    """
    if part == "all":
        return list(references)
    order = list(range(len(references)))
    random.Random(_SEED).shuffle(order)
    searched = set(order[: (len(order) + 1) // 2])
    chosen = [one for index, one in enumerate(references) if (index in searched) == (part == "search")]
    say(f"{len(chosen)} of {len(references)} references are used, the half called {part} (evaluation.references_part)")
    return chosen
