"""How far a stage is, by steps or by the clock, and the rate that follows from it."""

from __future__ import annotations

import math
import time

import torch

_WARM_UP, _FIRST = 0.05, 1 / 25


class Budget:
    """A number of steps, and where given of minutes, whichever ends first: who shares a machine knows the minutes, not the steps."""

    def __init__(self, steps: int, minutes: float | None = None) -> None:
        self.steps, self.minutes = steps, minutes
        self.step, self.start = 0, time.monotonic()

    @property
    def share(self) -> float:
        """How much of it is used, in [0, 1]."""
        by_clock = 0.0 if self.minutes is None else (time.monotonic() - self.start) / (60 * self.minutes)
        return min(max(self.step / self.steps, by_clock), 1.0)

    def __str__(self) -> str:
        return f"step {self.step} ({self.share:.0%}, {time.monotonic() - self.start:.0f} s)"

    def begin_step(self, optimizer: torch.optim.Optimizer, rate: float) -> float:
        """Count a step and set its rate by one cycle of cosines, a short warm-up and a long way to zero. Returns the share used so far."""
        share = self.share
        if share < _WARM_UP:
            height = _FIRST + (1 - _FIRST) * (1 - math.cos(math.pi * share / _WARM_UP)) / 2
        else:
            height = (1 + math.cos(math.pi * (share - _WARM_UP) / (1 - _WARM_UP))) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate * height
        self.step += 1
        return share

    @torch.no_grad()
    def follow(self, average: torch.nn.Module, trained: torch.nn.Module, longest_memory: float) -> None:
        """Move the average of weights after this step; its decay grows to `longest_memory`, so that early steps are soon forgotten."""
        decay = min(longest_memory, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(average.parameters()), list(trained.parameters()), 1 - decay)
