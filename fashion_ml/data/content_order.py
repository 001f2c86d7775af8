"""In what order a StarGAN's contents come: as a function of (seed, position), so that a resumed training goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

from fashion_ml.runtime.seeding import generator

_ROUNDS = 256
"""Rounds over all domains that are drawn at once."""


@dataclass(frozen=True)
class ContentOrder:
    """Training latents, one after the other for ever, as (domain, index) of a position from 0."""

    training: Sequence[Sequence[int]]
    """Indices of the latents that are trained on, by domain."""
    by: Literal["domain", "size"]
    """`domain`: each domain equally often, in rounds that hold every domain once in an order of their own; within a domain permutations of its
    latents, one after the other. `size`: permutations of all latents, so that a larger domain comes more often."""
    seed: int

    @property
    def whole(self) -> int:
        """Positions after which every latent has come: all of them by size; by domain those of the largest, times domains."""
        sizes = [len(one) for one in self.training]
        return sum(sizes) if self.by == "size" else max(sizes) * len(sizes)

    def at(self, position: int) -> tuple[int, int]:
        """Domain and index of the content at a position."""
        if self.by == "size":
            round_, place = divmod(position, self.whole)
            return self._of_all(_permutation(self.seed, "stargan contents", round_, self.whole)[place])
        turn, place = divmod(position, len(self.training))
        block, row = divmod(turn, _ROUNDS)
        domain = _rounds(self.seed, block, len(self.training))[row][place]
        own = self.training[domain]
        round_, place = divmod(turn, len(own))
        return domain, own[_permutation(self.seed, f"stargan contents {domain}", round_, len(own))[place]]

    def _of_all(self, place: int) -> tuple[int, int]:
        for domain, own in enumerate(self.training):
            if place < len(own):
                return domain, own[place]
            place -= len(own)
        raise IndexError(place)


@lru_cache(maxsize=64)
def _permutation(seed: int, purpose: str, round_: int, count: int) -> list[int]:
    return torch.randperm(count, generator=generator(seed, purpose, round_)).tolist()


@lru_cache(maxsize=4)
def _rounds(seed: int, block: int, domains: int) -> list[list[int]]:
    """Orders of the domains in the rounds of a block."""
    return torch.rand(_ROUNDS, domains, generator=generator(seed, "stargan domains", block)).argsort(1).tolist()
