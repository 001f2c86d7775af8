"""What produced a metric: numbers with different fingerprints cannot be compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from fashion_ml.config import Evaluation
from fashion_ml.data.images import CaptionedImage, data_digest
from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.metrics.color import BINS
from fashion_ml.metrics.lpips import BACKBONE

_NOT_HASHED = ("encoder",)
"""The name of an encoder: the same weights may be called differently on another machine."""


def measuring_facts(settings: Evaluation, suite: MetricSuite) -> dict[str, Any]:
    """Everything about the instruments that the scores depend on; None for what was left out."""
    encoder = suite.encoder
    return {
        "encoder": encoder.name if encoder else None,
        "encoder_sha256": encoder.weights_sha256 if encoder else None,
        "encoder_structure_sha256": encoder.structure_sha256 if encoder else None,
        "encoder_transform": encoder.transform if encoder else None,
        "encoder_precision": encoder.precision if encoder else None,
        "attributes_sha256": suite.attributes.sha256 if suite.attributes else None,
        "lpips": BACKBONE if suite.measures("lpips") else None,
        "ssim": "skimage, 8-bit ITU-R 601 luma, window 7, data_range 255",
        "color_bins": BINS,
        "weights": settings.weights.model_dump() if encoder else None,
        "resamples": settings.resamples,
    }


def evaluation_facts(
    settings: Evaluation,
    references: Sequence[CaptionedImage],
    suite: MetricSuite,
    sizes: Sequence[tuple[int, int]],
    sampler: str,
) -> dict[str, Any]:
    """Everything but the model that the scores of generated images depend on."""
    return {
        **measuring_facts(settings, suite),
        "references_sha256": data_digest(references),
        "references": len(references),
        "prompts": [reference.caption for reference in references],
        "reference_fit": "shorter side scaled, centre crop",
        "seed": settings.seed,
        "images_per_reference": settings.images_per_reference,
        "sampler": sampler,
        "num_inference_steps": settings.num_inference_steps,
        "guidance_scale": settings.guidance_scale,
        "sizes": sorted({f"{width}x{height}" for width, height in sizes}),
    }


def fingerprint(facts: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of the facts."""
    hashed = {key: value for key, value in facts.items() if key not in _NOT_HASHED}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def difference(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """What differs between two sets of facts, a line each: `field: one value, another value`."""
    lines = []
    for key in sorted(first.keys() | second.keys()):
        a, b = first.get(key), second.get(key)
        if a != b and key not in (*_NOT_HASHED, "fingerprint"):
            lines.append(f"{key}: {_short(a)}, {_short(b)}")
    return lines


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
