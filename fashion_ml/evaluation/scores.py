"""Per-image scores, their means with intervals, and the paired gain of the LoRA over the base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd
from PIL import Image

from fashion_ml.metrics.bootstrap import Interval, bootstrap_mean
from fashion_ml.metrics.color import color_correlation
from fashion_ml.metrics.fashion_clip import FashionClip, cosine
from fashion_ml.metrics.scores import SIMILARITY_OF, losses_of
from fashion_ml.metrics.ssim import ssim

LOSSES = (*SIMILARITY_OF, "weighted_total_loss")
METRICS = (*SIMILARITY_OF.values(), *LOSSES)


@dataclass(frozen=True)
class Comparison:
    """One metric over the reference images; `gain` is positive where the LoRA is better."""

    base: Interval
    lora: Interval
    gain: Interval


def score_pairs(
    pictures: Sequence[Image.Image], references: Sequence[Image.Image], encoder: FashionClip, weights: dict[str, float]
) -> pd.DataFrame:
    """A row for every pair with the three similarities, the three losses and the weighted total."""
    similarity = cosine(encoder.embed_images(pictures), encoder.embed_images(references))
    rows = []
    for picture, reference, fashion in zip(pictures, references, similarity, strict=True):
        measured = {
            "ssim": ssim(picture, reference),
            "fashion_similarity": fashion,
            "color_correlation": color_correlation(picture, reference),
        }
        rows.append(measured | losses_of(measured, weights))
    return pd.DataFrame(rows)


def compare(base: pd.DataFrame, lora: pd.DataFrame, reference: Sequence[str], *, resamples: int) -> dict[str, Comparison]:
    """Every metric of both, seeds averaged first, bootstrapped over references; the gain is paired by reference."""
    result = {}
    by = pd.Series(list(reference), name="reference")
    for metric in METRICS:
        base_means, lora_means = (table[metric].groupby(by.to_numpy(), sort=False).mean() for table in (base, lora))
        sign = -1.0 if metric in LOSSES else 1.0
        gains = sign * (lora_means - base_means)
        result[metric] = Comparison(
            *(bootstrap_mean(values.tolist(), resamples=resamples) for values in (base_means, lora_means, gains))
        )
    return result


def headline(scores: dict[str, Comparison]) -> dict[str, float]:
    """The means: `ssim`, `base_ssim`, `gain_ssim`, … for every metric."""
    flat: dict[str, float] = {}
    for metric, comparison in scores.items():
        flat |= {metric: comparison.lora.mean, f"base_{metric}": comparison.base.mean, f"gain_{metric}": comparison.gain.mean}
    return flat


def intervals(scores: dict[str, Comparison]) -> dict[str, float]:
    """The ends of the intervals: `ssim_low`, `ssim_high`, `base_ssim_low`, `gain_ssim_low`, …; empty with one reference."""
    flat: dict[str, float] = {}
    for metric, comparison in scores.items():
        for prefix, interval in (("", comparison.lora), ("base_", comparison.base), ("gain_", comparison.gain)):
            if interval.ends:
                flat |= {f"{prefix}{metric}_low": interval.ends[0], f"{prefix}{metric}_high": interval.ends[1]}
    return flat


def as_dict(scores: dict[str, Comparison]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Plain nested numbers for JSON."""
    return {metric: asdict(comparison) for metric, comparison in scores.items()}


def sentence(scores: dict[str, Comparison]) -> str:
    """What people want to know, and how sure it is."""
    gain = scores["weighted_total_loss"].gain
    verb = "lowers" if gain.mean >= 0 else "raises"
    if gain.ends is None:
        return (
            f"LoRA {verb} weighted_total_loss by {abs(gain.mean):.3f} against the base model on one reference image, which is no proof; "
            "give more references."
        )
    low, high = gain.ends if gain.mean >= 0 else (-gain.ends[1], -gain.ends[0])
    text = f"LoRA {verb} weighted_total_loss by {abs(gain.mean):.3f} [{low:.3f}, {high:.3f}] against the base model"
    if gain.ends[0] > 0:
        return f"{text}."
    return (
        f"{text}; the LoRA is worse." if gain.ends[1] < 0 else f"{text}; the interval holds 0, so this is no proof either way."
    )
