"""From per-image scores to means with intervals, and the paired gain of one side over another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from fashion_ml.evaluation.verdicts import PARTS, PRIMARY, Judged, Verdict, judge
from fashion_ml.metrics.bootstrap import Interval, bootstrap_mean
from fashion_ml.metrics.power import Power
from fashion_ml.metrics.registry import METRICS, PAIR_METRICS, SIMILARITY_OF, better, metric_of
from fashion_ml.runtime.language import tr


@dataclass(frozen=True)
class Comparison:
    """One metric over the reference images; `gain` is positive where the LoRA is better, None where neither way is better."""

    base: Interval
    lora: Interval
    gain: Interval | None
    p: float | None = None
    """Of the gain, by the sign-flip test; of the three parts after Holm. Of other metrics, and below 6 references, None."""
    verdict: Verdict = ""
    """Of weighted_total_loss and its three parts."""
    why: str = ""
    """Why there is no verdict on one of these."""
    power: Power | None = None
    """What gain could be seen."""


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
        metric: _bootstrap(metric, means_by_reference(table, metric, reference).dropna(), resamples)
        for metric in metrics_of(table)
    }


def gains(first: pd.DataFrame, second: pd.DataFrame, metric: str, reference: Sequence[str]) -> pd.Series:
    """By reference, how much better the second is: positive is better; references that one of them lacks are left out."""
    a, b = (means_by_reference(table, metric, reference) for table in (first, second))
    return ((a - b) if better(metric) == "lower" else (b - a)).dropna()


def image_gains(first: pd.DataFrame, second: pd.DataFrame, metric: str, reference: Sequence[str]) -> dict[str, list[float]]:
    """By reference, how much better each of the second's images is than the first's of the same row."""
    sign = 1 if better(metric) == "higher" else -1
    each = pd.Series(sign * (second[metric].to_numpy() - first[metric].to_numpy()), index=list(reference)).dropna()
    return {str(name): values.tolist() for name, values in each.groupby(level=0, sort=False)}


def judged_gains(
    first: pd.DataFrame,
    second: pd.DataFrame,
    reference: Sequence[str],
    *,
    resamples: int,
    no_verdict: Mapping[str, str] | None = None,
    seeds: bool = True,
) -> dict[str, Judged]:
    """Every metric that both have and that has a better way: the second's gain over the first, row by row of one reference and seed.

    Without `seeds` several rows of one reference are no seeds (a StarGAN's are targets), of which there could be more.
    """
    names = [name for name in metrics_of(second) if name in metrics_of(first) and better(name)]
    found = {name: gains(first, second, name, reference) for name in names}
    found = {name: values for name, values in found.items() if not values.empty}
    images: dict[str, dict[str, list[float]]] = {
        name: image_gains(first, second, name, reference)
        if seeds
        else {str(one): [value] for one, value in found[name].items()}
        for name in found
    }
    return judge(found, images, resamples=resamples, no_verdict=no_verdict)


def compare(
    base: pd.DataFrame,
    lora: pd.DataFrame,
    reference: Sequence[str],
    *,
    resamples: int,
    no_verdict: Mapping[str, str] | None = None,
) -> dict[str, Comparison]:
    """Every metric that both have, with intervals over references; the gain is paired by reference.

    `no_verdict` names metrics on which there is no verdict whatever the numbers, and why (an encoder that cannot read the pictures).
    """
    judged = judged_gains(base, lora, reference, resamples=resamples, no_verdict=no_verdict)
    result = {}
    for metric in [name for name in metrics_of(lora) if name in metrics_of(base)]:
        both = gains(base, lora, metric, reference).index
        if both.empty:
            continue
        of_base, of_lora = (
            _bootstrap(metric, means_by_reference(one, metric, reference)[both], resamples) for one in (base, lora)
        )
        one = judged.get(metric)
        more = (one.gain, one.p, one.verdict, one.why, one.power) if one else (None,)
        result[metric] = Comparison(of_base, of_lora, *more)
    return result


def _bootstrap(metric: str, values: pd.Series, resamples: int) -> Interval:
    return bootstrap_mean(values.tolist(), resamples=resamples).within(*metric_of(metric).bounds)


def headline(scores: dict[str, Comparison]) -> dict[str, float]:
    """The means: `ssim`, `base_ssim`, `gain_ssim`, … for every metric."""
    return {name: interval.mean for name, interval in _named(scores)}


def intervals(scores: dict[str, Comparison]) -> dict[str, float]:
    """The ends of the intervals: `ssim_low`, `ssim_high`, `base_ssim_low`, `gain_ssim_low`, …; empty below 6 references."""
    return ends(_named(scores))


def ends(named: Iterable[tuple[str, Interval]]) -> dict[str, float]:
    """`<name>_low` and `<name>_high` of every interval that has ends, and `<name>_n` where it is of fewer references than others."""
    named = list(named)
    most = max((interval.n or 0 for _, interval in named), default=0)
    flat: dict[str, float] = {}
    for name, interval in named:
        if interval.ends:
            flat |= {f"{name}_low": interval.ends[0], f"{name}_high": interval.ends[1]}
        if interval.n is not None and interval.n < most:
            flat[f"{name}_n"] = interval.n
    return flat


def _named(scores: dict[str, Comparison]) -> list[tuple[str, Interval]]:
    named = []
    for metric, comparison in scores.items():
        named += [(metric, comparison.lora), (f"base_{metric}", comparison.base)]
        if comparison.gain is not None:
            named.append((f"gain_{metric}", comparison.gain))
    return named


def to_dict(scores: dict[str, Comparison]) -> dict[str, dict[str, Any]]:
    """Plain nested numbers for JSON."""
    return {metric: asdict(comparison) for metric, comparison in scores.items()}


def table_names(names: Iterable[str], table: pd.DataFrame | None = None, reference: Sequence[str] = ()) -> dict[str, str]:
    """What a table shows of the measured metrics, and what it calls them.

    A similarity and its loss are one line, that of the loss. With the scores and each one's reference, what not every image has says of how
    many references and images it is.
    """
    names = list(names)
    hidden = {SIMILARITY_OF[loss] for loss in names if loss in SIMILARITY_OF}
    found = {}
    for name in names:
        if name not in hidden:
            label = f"{name} (1 - {SIMILARITY_OF[name]})" if name in SIMILARITY_OF else name
            found[name] = label + ("" if table is None else _count(table, name, reference))
    return found


def _count(table: pd.DataFrame, name: str, reference: Sequence[str]) -> str:
    """Of how many references and images a metric is, where it is not of all."""
    if name not in table or not (missing := table[name].isna().to_numpy()).any():
        return ""
    there = [one for one, absent in zip(reference, missing, strict=True) if not absent]
    return tr(
        ", n = {count} of {count_2} references ({count_3} of {count_4} images)",
        count=len(set(there)),
        count_2=len(set(reference)),
        count_3=len(there),
        count_4=len(reference),
    )


def comparison_rows(
    table: pd.DataFrame, scores: dict[str, Comparison], reference: Sequence[str]
) -> list[tuple[str, str, Sequence[str]]]:
    """A line for each metric of a table under COMPARISON_HEADS: its name, which way is better, the cells."""
    rows: list[tuple[str, str, Sequence[str]]] = []
    for name, label in table_names(scores, table, reference).items():
        one = scores[name]
        gain = shown(one.gain, "+") if one.gain else ""
        sees = f"{one.power.sees:.4f}" if one.power else ""
        rows.append((label, better(name), [shown(one.base), shown(one.lora), gain, one.verdict, sees]))
    return rows


COMPARISON_HEADS = ("base", "LoRA", "gain", "verdict", "can see ≥")


def summary(scores: dict[str, Comparison], fingerprint: str, text: str, references: int, images: int) -> dict[str, Any]:
    """`summary.json` of a LoRA: what may be claimed, with n, p, verdicts and power of the primary metric and its parts."""
    judged = {name: asdict(scores[name]) for name in (PRIMARY, *PARTS) if name in scores}
    found: dict[str, Any] = {"claim": "this LoRA", "sentence": text, "fingerprint": fingerprint}
    return found | {
        "references": references,
        "images": images,
        "primary": PRIMARY if PRIMARY in scores else None,
        "judged": judged,
    }


def shown(interval: Interval, sign: str = "", digits: int = 4) -> str:
    """A mean with its interval, N/A where there is none; 0 has a plus, what rounds to it its own sign."""
    form = f"{sign}.{digits}f"
    ends_ = f"{interval.ends[0]:{form}}, {interval.ends[1]:{form}}" if interval.ends else "N/A"
    return f"{interval.mean + 0.0:{form}} [{ends_}]"
