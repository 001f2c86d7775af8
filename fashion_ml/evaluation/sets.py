"""Distances of whole sets of pictures: of each side from the references, and what is gained, with intervals over references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.metrics.bootstrap import FEWEST, Interval
from fashion_ml.metrics.registry import METRICS, better

OF_SETS = tuple(metric.name for metric in METRICS if metric.of_sets is not None)


def measure_sets(
    suite: MetricSuite,
    sides: Mapping[str, torch.Tensor | None],
    references: torch.Tensor | None,
    made_of: Sequence[int],
    captions: Sequence[str],
    resamples: int,
) -> dict[str, Interval]:
    """Every metric of whole sets by its name in MLflow: `kid`, and where there are two sides `base_kid` and `gain_kid`, paired by reference.

    `sides` are the embeddings (N, D) of the side that the evaluation is about, then of the base where there is one; `references` (M, D).
    `made_of` is each picture's reference, `captions` those of the references. What one side could not be measured by is absent.
    """
    if references is None or any(side is None for side in sides.values()):
        return {}
    numbers = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
    alike, of = torch.tensor([numbers[caption] for caption in captions]), torch.tensor(list(made_of))
    found: dict[str, Interval] = {}
    weights = _resamples(len(references), resamples)
    for metric in suite.metrics:
        if metric.of_sets is None:
            continue
        values = []
        for side in sides.values():
            assert side is not None
            values.append(metric.of_sets(side, references, of, alike, weights))
        if any(value is None for value in values):
            continue
        known = [value for value in values if value is not None]
        found |= {
            prefix + metric.name: _interval(value, len(references)) for prefix, value in zip(("", "base_"), known, strict=False)
        }
        if len(known) == 2:
            gain = known[1] - known[0] if better(metric.name) == "lower" else known[0] - known[1]
            found[f"gain_{metric.name}"] = _interval(gain, len(references))
    return found


def _resamples(count: int, resamples: int) -> torch.Tensor:
    """How often each reference counts: once in the first row, then as often as it is drawn; (1 + resamples, count)."""
    drawn = np.random.default_rng(0).multinomial(count, [1 / count] * count, size=resamples if count >= FEWEST else 0)
    return torch.cat([torch.ones(1, count, dtype=torch.float64), torch.from_numpy(drawn).double()])


def _interval(values: torch.Tensor, n: int) -> Interval:
    """The value of all references, and what 95 % of the resamples lie between."""
    mean, resampled = float(values[0]), values[1:].numpy()
    known = resampled[~np.isnan(resampled)]
    if len(known) == 0:
        return Interval(mean, None, None, n)
    low, high = np.quantile(known, [0.025, 0.975])
    return Interval(mean, float(low), float(high), n)
