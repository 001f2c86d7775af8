"""Which images each optimiser step sees, as a function of (seed, step): nothing to save, nothing to restore."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from fashion_ml.runtime.seeding import generator


@dataclass(frozen=True)
class StepPlan:
    """Counting and order of a training; an epoch is one pass with repeats.

    A batch holds images of one bucket only; the last batch of a bucket, and the last step of an epoch, may be smaller.
    """

    repeats: tuple[int, ...]
    """How often image i is seen in one epoch."""
    batch_size: int
    """Images in one forward pass, over all processes."""
    accumulation: int
    """Batches in one optimiser step."""
    seed: int
    bucket_of: tuple[int, ...] = ()
    """Bucket of image i; all in one when not given."""
    purpose: str = "order"
    """Two plans of one training, such as the images' and the prior's, must differ here."""

    @cached_property
    def images_per_epoch(self) -> int:
        """Images of one epoch, repeats included."""
        return sum(self.repeats)

    @cached_property
    def batches_per_epoch(self) -> int:
        """Forward passes of one epoch."""
        counts: dict[int, int] = {}
        for bucket, repeats in zip(self.bucket_of or [0] * len(self.repeats), self.repeats, strict=True):
            counts[bucket] = counts.get(bucket, 0) + repeats
        return sum(-(-count // self.batch_size) for count in counts.values())

    @cached_property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one epoch."""
        return -(-self.batches_per_epoch // self.accumulation)

    def epoch(self, step: int) -> int:
        """Epoch, from 1, of an optimiser step, from 1."""
        return (step - 1) // self.steps_per_epoch + 1

    def batches(self, step: int) -> list[list[int]]:
        """Image indices of each forward pass of an optimiser step; every epoch is a new permutation."""
        first = (step - 1) % self.steps_per_epoch * self.accumulation
        return [list(batch) for batch in self._batches_of(self.epoch(step))[first : first + self.accumulation]]

    def images(self, step: int) -> list[int]:
        """Image indices of an optimiser step, in order."""
        return [index for batch in self.batches(step) for index in batch]

    def _batches_of(self, epoch: int) -> Sequence[Sequence[int]]:
        """An epoch's batches, drawn when its first step is asked for; the plan holds one epoch."""
        found = self._drawn.get(epoch)
        if found is None:  # another thread may ask for another epoch at the same time
            found = _epoch_batches(self, epoch)
            self._drawn.clear()
            self._drawn[epoch] = found
        return found

    @cached_property
    def _drawn(self) -> dict[int, Sequence[Sequence[int]]]:
        return {}


def _epoch_batches(plan: StepPlan, epoch: int) -> Sequence[Sequence[int]]:
    pool = [index for index, count in enumerate(plan.repeats) for _ in range(count)]
    order = [pool[i] for i in torch.randperm(len(pool), generator=generator(plan.seed, plan.purpose, epoch)).tolist()]
    if not plan.bucket_of:
        return [order[first : first + plan.batch_size] for first in range(0, len(order), plan.batch_size)]
    by_bucket: dict[int, list[int]] = {}
    for index in order:
        by_bucket.setdefault(plan.bucket_of[index], []).append(index)
    batches = [
        images[first : first + plan.batch_size]
        for _, images in sorted(by_bucket.items())
        for first in range(0, len(images), plan.batch_size)
    ]
    mixed = torch.randperm(len(batches), generator=generator(plan.seed, f"{plan.purpose} of batches", epoch)).tolist()
    return [batches[i] for i in mixed] if len(by_bucket) > 1 else batches
