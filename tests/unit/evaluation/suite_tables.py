"""Evaluations of recipes made by hand: what scatters is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from fashion_ml.evaluation.compare import Evaluated

REAL = (0.0072, 0.0, 0.022)
"""Standard deviations of weighted_total_loss between seeds, of what suits one recipe, and of the rest, measured on three trainings of the
embedded demo (24 references x 2 images); between references it was 0.050."""


def matrix(mean: float, seeds: int, rng: np.random.Generator, hard: np.ndarray, sds: tuple[float, ...] = REAL) -> np.ndarray:
    """Values of one recipe (seeds, references) over references that are `hard` for all."""
    own = mean + hard + rng.normal(0, sds[1], hard.size) + rng.normal(0, sds[0], (seeds, 1))
    return own + rng.normal(0, sds[2], (seeds, hard.size))


def recipe(
    name: str,
    mean: float,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    sds: tuple[float, float, float] = REAL,
    references: int = 24,
    draw: int = 0,
    settings: Mapping[str, str] | None = None,
    unread: str = "",
) -> list[Evaluated]:
    """Trainings of a recipe, one a seed, each of one image a reference."""
    hard = np.random.default_rng(1).normal(0, 0.05, references)
    rng = np.random.default_rng([draw, *name.encode()])
    suits = rng.normal(0, sds[1], references)
    found = []
    for seed in seeds:
        values = mean + hard + suits + rng.normal(0, sds[0]) + rng.normal(0, sds[2], references)
        rows = {"reference": [f"r{i:02d}" for i in range(references)], "seed": "0", "weighted_total_loss": values}
        rows |= {"ssim": 0.6 - values / 2, "visual_loss": 0.4 + values / 2, "nearest_training_similarity": 0.5}
        run_id = f"{name}-{seed}"
        found.append(Evaluated(run_id, run_id, {"fingerprint": "f"}, pd.DataFrame(rows), settings, str(seed), unread))
    return found
