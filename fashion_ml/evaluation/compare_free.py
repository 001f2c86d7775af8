"""Free prompts of two evaluations side by side: leak, look and editability, paired by prompt."""

from __future__ import annotations

import pandas as pd

from fashion_ml.metrics.bootstrap import Interval, bootstrap_mean
from fashion_ml.metrics.registry import EDITABILITY, LEAK, LOOK, better, metric_of


def free_differences(
    first: pd.DataFrame | None, other: pd.DataFrame | None, *, resamples: int
) -> dict[str, tuple[float, float, Interval]]:
    """By metric the mean of the first, that of the other, and how much better the other is, over prompts whose seeds are averaged first.

    The tables are those of `free_prompts.csv`; nothing where one is missing, or a metric was not measured in both.
    """
    if first is None or other is None:
        return {}
    found = {}
    for name in (LEAK, LOOK, EDITABILITY):
        both = pd.concat([_by_prompt(first, name), _by_prompt(other, name)], axis=1, keys=["first", "other"]).dropna()
        if not both.empty:
            gain = (both["first"] - both["other"]) * (1 if better(name) == "lower" else -1)
            found[name] = (
                float(both["first"].mean()),
                float(both["other"].mean()),
                bootstrap_mean(gain.tolist(), resamples=resamples).within(*metric_of(name).bounds_of_gain),
            )
    return found


def _by_prompt(table: pd.DataFrame, name: str) -> pd.Series:
    """The values of a metric by prompt; empty where it was not measured."""
    from fashion_ml.evaluation.free_prompts import SIMILARITY
    from fashion_ml.evaluation.prompts import WITH, WITHOUT

    some = table[table["group"] == (WITHOUT if name == LEAK else WITH)]
    if name == EDITABILITY:
        values = some[name] if name in some else pd.Series(dtype=float)
    else:
        values = some[SIMILARITY] - some[f"base_{SIMILARITY}"]
    return values.groupby(some["prompt"].loc[values.index]).mean()
