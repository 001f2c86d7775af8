"""Which images each optimiser step sees, as a function of (seed, step): nothing to save, nothing to restore."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from fashion_ml.seeding import generator


@dataclass(frozen=True)
class StepPlan:
    """Counting and order of a training; an epoch is one pass with repeats, its last step may hold fewer images."""

    repeats: tuple[int, ...]
    """How often image i is seen in one epoch."""
    images_per_step: int
    """Batch size times gradient accumulation."""
    seed: int

    @property
    def images_per_epoch(self) -> int:
        """Images of one epoch, repeats included."""
        return sum(self.repeats)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one epoch."""
        return -(-self.images_per_epoch // self.images_per_step)

    def epoch(self, step: int) -> int:
        """Epoch, from 1, of an optimiser step, from 1."""
        return (step - 1) // self.steps_per_epoch + 1

    def images(self, step: int) -> list[int]:
        """Image indices of an optimiser step; every epoch is a new permutation."""
        position = (step - 1) % self.steps_per_epoch * self.images_per_step
        return list(_epoch_order(self.repeats, self.seed, self.epoch(step))[position : position + self.images_per_step])


@lru_cache(maxsize=2)
def _epoch_order(repeats: tuple[int, ...], seed: int, epoch: int) -> Sequence[int]:
    pool = [index for index, count in enumerate(repeats) for _ in range(count)]
    return [pool[i] for i in torch.randperm(len(pool), generator=generator(seed, "order", epoch)).tolist()]
