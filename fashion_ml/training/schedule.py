"""Learning-rate schedules as functions of the step."""

from __future__ import annotations

import math


def lr_factor(step: int, *, shape: str, warmup_steps: int, total_steps: int) -> float:
    """Factor in [0, 1] on the learning rate of an optimiser step, counted from 1; equal to diffusers' `get_scheduler`.

    Linear from 0 over `warmup_steps`, then `constant`, or `cosine` (Loshchilov & Hutter 2017, arXiv:1608.03983) or `linear` to 0.
    """
    done = step - 1
    if done < warmup_steps:
        return done / warmup_steps
    if shape == "constant":
        return 1.0
    progress = (done - warmup_steps) / max(total_steps - warmup_steps, 1)
    return max(0.5 * (1 + math.cos(math.pi * progress)) if shape == "cosine" else 1 - progress, 0.0)
