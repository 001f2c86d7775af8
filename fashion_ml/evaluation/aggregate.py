"""From per-image scores to means with intervals, and the paired gain of one side over another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from fashion_ml.metrics.bootstrap import Interval, bootstrap_mean
from fashion_ml.metrics.registry import METRICS, PAIR_METRICS, SIMILARITY_OF, TOTAL, better


@dataclass(frozen=True)
class Comparison:
    """One metric over the reference images; `gain` is positive where the LoRA is better, None where neither way is better."""

    base: Interval
    lora: Interval
    gain: Interval | None


def metrics_of(table: pd.DataFrame) -> list[str]:
    """The metrics of a table of scores that hold any value, in their order."""
    families = tuple(metric.name for metric in METRICS if metric.family)
    known = [name for name in PAIR_METRICS if name in table] + [name for name in table if str(name).startswith(families)]
    return [name for name in known if table[name].notna().any()]


def means_by_reference(table: pd.DataFrame, metric: str, reference: Sequence[str]) -> pd.Series:
    """Each reference's mean over its seeds, in the order of first appearance; NaN where nothing was measured."""
    return table[metric].groupby(pd.Series(list(reference), index=table.index), sort=False).mean()


def summarise(table: pd.DataFrame, reference: Sequence[str], *, resamples: int) -> dict[str, Interval]:
    """Every metric's mean over references, seeds averaged first, with its interval."""
    return {
        metric: _bootstrap(means_by_reference(table, metric, reference).dropna(), resamples) for metric in metrics_of(table)
    }


def gains(first: pd.DataFrame, second: pd.DataFrame, metric: str, reference: Sequence[str]) -> pd.Series:
    """By reference, how much better the second is: positive is better; references that one of them lacks are left out."""
    a, b = (means_by_reference(table, metric, reference) for table in (first, second))
    return ((a - b) if better(metric) == "lower" else (b - a)).dropna()


def compare(base: pd.DataFrame, lora: pd.DataFrame, reference: Sequence[str], *, resamples: int) -> dict[str, Comparison]:
    """Every metric that both have, bootstrapped over references; the gain is paired by reference."""
    result = {}
    names = metrics_of(base)
    for metric in [name for name in metrics_of(lora) if name in names]:
        paired = gains(base, lora, metric, reference)
        if paired.empty:
            continue
        base_means, lora_means = (means_by_reference(table, metric, reference)[paired.index] for table in (base, lora))
        gain = _bootstrap(paired, resamples) if better(metric) else None
        result[metric] = Comparison(_bootstrap(base_means, resamples), _bootstrap(lora_means, resamples), gain)
    return result


def _bootstrap(values: pd.Series, resamples: int) -> Interval:
    return bootstrap_mean(values.tolist(), resamples=resamples)


def headline(scores: dict[str, Comparison]) -> dict[str, float]:
    """The means: `ssim`, `base_ssim`, `gain_ssim`, … for every metric."""
    return {name: interval.mean for name, interval in _named(scores)}


def intervals(scores: dict[str, Comparison]) -> dict[str, float]:
    """The ends of the intervals: `ssim_low`, `ssim_high`, `base_ssim_low`, `gain_ssim_low`, …; empty with one reference."""
    return ends(_named(scores))


def ends(named: Iterable[tuple[str, Interval]]) -> dict[str, float]:
    """`<name>_low` and `<name>_high` of every interval that has ends."""
    flat: dict[str, float] = {}
    for name, interval in named:
        if interval.ends:
            flat |= {f"{name}_low": interval.ends[0], f"{name}_high": interval.ends[1]}
    return flat


def _named(scores: dict[str, Comparison]) -> list[tuple[str, Interval]]:
    named = []
    for metric, comparison in scores.items():
        named += [(metric, comparison.lora), (f"base_{metric}", comparison.base)]
        if comparison.gain is not None:
            named.append((f"gain_{metric}", comparison.gain))
    return named


def to_dict(scores: dict[str, Comparison]) -> dict[str, dict[str, dict[str, float | None] | None]]:
    """Plain nested numbers for JSON."""
    return {metric: asdict(comparison) for metric, comparison in scores.items()}


def sentence(scores: dict[str, Comparison]) -> str:
    """What people want to know, and how sure it is."""
    if TOTAL not in scores:
        parts = [_clause(metric, scores[metric].gain)[0] for metric in SIMILARITY_OF if metric in scores]
        return f"LoRA {' and '.join(parts)} against the base model; without FashionCLIP there is no {TOTAL}."
    gain = scores[TOTAL].gain
    clause, ends_ = _clause(TOTAL, gain)
    text = f"LoRA {clause} against the base model"
    if ends_ is None:
        return f"{text} on one reference image, which is no proof; give more references."
    if ends_[0] > 0:
        return f"{text}."
    return f"{text}; the LoRA is worse." if ends_[1] < 0 else f"{text}; the interval holds 0, so this is no proof either way."


def _clause(metric: str, gain: Interval | None) -> tuple[str, tuple[float, float] | None]:
    assert gain is not None
    verb = "lowers" if gain.mean >= 0 else "raises"
    text = f"{verb} {metric} by {abs(gain.mean):.3f}"
    if gain.ends is None:
        return text, None
    low, high = gain.ends if gain.mean >= 0 else (-gain.ends[1], -gain.ends[0])
    return f"{text} [{low:.3f}, {high:.3f}]", gain.ends


def shown(interval: Interval, sign: str = "") -> str:
    """A mean with its interval, N/A where one reference gives none."""
    ends_ = f"{interval.ends[0]:{sign}.4f}, {interval.ends[1]:{sign}.4f}" if interval.ends else "N/A"
    return f"{interval.mean:{sign}.4f} [{ends_}]"
