"""Learning-rate schedules as functions of the step."""

from __future__ import annotations

import math

POLYNOMIAL_END = 1e-7
"""Where diffusers' polynomial schedule ends, as an absolute learning rate."""


def lr_factor(
    step: int,
    *,
    shape: str,
    warmup_steps: float,
    total_steps: int,
    peak: float = 1.0,
    power: float = 1.0,
    cycles: int = 1,
) -> float:
    """Factor in [0, 1] on the peak learning rate of an optimiser step, counted from 1; equal to diffusers' `get_scheduler`.

    Linear from 0 over `warmup_steps` (below 1: that share of all steps, rounded down), then `constant`, or `cosine` (Loshchilov & Hutter
    2017, arXiv:1608.03983), `linear` or `polynomial` (of `power`) down to 0; the polynomial one ends at the learning rate 1e-7, as
    diffusers' does, and `cosine_with_restarts` goes down from the peak `cycles` times.
    """
    warmup_steps = int(warmup_steps * total_steps) if warmup_steps < 1 else int(warmup_steps)
    done = step - 1
    if done < warmup_steps:
        return done / warmup_steps
    if shape == "constant":
        return 1.0
    progress = min((done - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
    if shape == "polynomial":
        end = min(POLYNOMIAL_END / peak, 1.0)
        return (1 - end) * (1 - progress) ** power + end
    if shape == "cosine_with_restarts":
        return 0.5 * (1 + math.cos(math.pi * (cycles * progress % 1.0))) if progress < 1 else 0.0
    return 0.5 * (1 + math.cos(math.pi * progress)) if shape == "cosine" else 1 - progress
