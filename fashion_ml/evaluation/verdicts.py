"""What may be said of a difference: an interval for every metric, a word for the primary one and its three parts, and what could be seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from fashion_ml.metrics.bootstrap import FEWEST, Interval, bootstrap_mean
from fashion_ml.metrics.power import Power, power
from fashion_ml.metrics.registry import SIMILARITY_OF, TOTAL, metric_of
from fashion_ml.metrics.sign_flip import holm, sign_flip_p
from fashion_ml.runtime.language import tr

Claim = Literal["this LoRA", "this file", "this recipe"]
"""What a sentence speaks of: a LoRA against its base, one file against another, settings over their training seeds."""
Verdict = Literal["better", "worse", "not shown", ""]
"""Empty where none is given."""
PRIMARY = TOTAL
PARTS = tuple(SIMILARITY_OF)
"""The losses that the primary metric is made of; their p are corrected for being three."""
LEVEL = 0.05


@dataclass(frozen=True)
class Judged:
    """One metric's paired difference over references."""

    gain: Interval
    """Positive is better."""
    p: float | None = None
    """Of the sign-flip test over references, of a part after Holm; None for other metrics and below 6 references."""
    verdict: Verdict = ""
    why: str = ""
    """Why there is no verdict on the primary metric or a part."""
    power: Power | None = None
    """What gain could be seen; None where no number could give a verdict."""


def judge(
    gains: Mapping[str, pd.Series],
    images: Mapping[str, Mapping[str, list[float]]],
    *,
    resamples: int,
    no_verdict: Mapping[str, str] | None = None,
) -> dict[str, Judged]:
    """Every metric's gains, by reference, judged; `images` are the same by reference and image, for what can be seen with more seeds.

    `better` and `worse` take p < 0.05 and an interval without 0. `no_verdict` names metrics that get none whatever the numbers, and why.
    """
    p_values = {name: sign_flip_p(gains[name].tolist()) for name in (PRIMARY, *PARTS) if len(gains.get(name, ())) >= FEWEST}
    corrected = p_values | holm({name: p for name, p in p_values.items() if name in PARTS})
    found = {}
    for name, values in gains.items():
        interval = bootstrap_mean(values.tolist(), resamples=resamples).within(*metric_of(name).bounds_of_gain)
        forbidden = (no_verdict or {}).get(name, "")
        verdict, why = _verdict(name, interval, corrected.get(name), forbidden)
        sees = power(images.get(name, {})) if len(values) >= FEWEST and not forbidden else None
        found[name] = Judged(interval, corrected.get(name), verdict, why, sees)
    return found


def too_few(n: int, what: Literal["reference", "content"] = "reference") -> str:
    """Why so many references give no interval and no verdict; empty where there are enough."""
    if n >= FEWEST:
        return ""
    if what == "content":
        said = tr("one content is") if n == 1 else tr("{n} contents are", n=n)
    else:
        said = tr("one reference is") if n == 1 else tr("{n} references are", n=n)
    return tr("{said} fewer than {fewest}, with which no test can reach p < 0.05", said=said, fewest=FEWEST)


def verdict_of(interval: Interval, p: float) -> Verdict:
    """`better` or `worse` where the p and the interval both say so, else `not shown`."""
    if p >= LEVEL or interval.ends is None or interval.ends[0] <= 0 <= interval.ends[1]:
        return "not shown"
    return "better" if interval.mean > 0 else "worse"


def _verdict(name: str, interval: Interval, p: float | None, forbidden: str) -> tuple[Verdict, str]:
    if name not in (PRIMARY, *PARTS):
        return "", ""
    if forbidden or p is None:
        return "", tr(", and ").join(filter(None, (forbidden, too_few(interval.n or 0))))
    return verdict_of(interval, p), ""
