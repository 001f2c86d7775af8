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
    least: float = 0.0,
    decay_steps: float = 0,
) -> float:
    """Factor in [0, 1] on the peak learning rate of an optimiser step, counted from 1; equal to diffusers' `get_scheduler`.

    Linear from 0 over `warmup_steps` (below 1: that share of all steps, rounded down), then `constant`, or `cosine` (Loshchilov & Hutter
    2017, arXiv:1608.03983), `linear` or `polynomial` (of `power`) down to 0; the polynomial one ends at the learning rate 1e-7, as
    diffusers' does, and `cosine_with_restarts` goes down from the peak `cycles` times. `rex` is (1 - p) / (1 - p / 2) of its share p (Chen
    et al. 2021, arXiv:2107.04197), `warmup_stable_decay` the peak until a half cosine over the last `decay_steps` (Hu et al. 2024,
    arXiv:2404.06395, as transformers' `get_wsd_schedule`). These two, cosine and linear end at `least`, a share of the peak.
    """
    warmup_steps, decay_steps = (int(n * total_steps) if n < 1 else int(n) for n in (warmup_steps, decay_steps))
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
    if shape == "linear":
        return least + (1 - least) * (1 - progress)
    if shape == "rex":
        return least + (1 - least) * (1 - progress) / (1 - progress / 2)
    if shape == "warmup_stable_decay":
        begun = done - (total_steps - decay_steps)
        progress = min(max(begun / decay_steps, 0.0), 1.0) if decay_steps else 0.0
    return least + (1 - least) * 0.5 * (1 + math.cos(math.pi * progress))
