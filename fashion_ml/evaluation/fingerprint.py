"""What produced a metric: numbers with different fingerprints cannot be compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from fashion_ml.config import Evaluation
from fashion_ml.data.captioned_images import CaptionedImage, data_digest
from fashion_ml.metrics.color import BINS
from fashion_ml.metrics.fashion_clip import FashionClip


def evaluation_facts(
    settings: Evaluation, references: Sequence[CaptionedImage], encoder: FashionClip, resolution: int, sampler: str
) -> dict[str, Any]:
    """Everything but the model that the scores depend on."""
    return {
        "encoder": encoder.name,
        "encoder_sha256": encoder.weights_sha256,
        "ssim": "skimage, 8-bit ITU-R 601 luma, window 7, data_range 255",
        "color_bins": BINS,
        "references_sha256": data_digest(references),
        "references": len(references),
        "prompts": [reference.caption for reference in references],
        "reference_fit": "shorter side scaled, centre crop",
        "seed": settings.seed,
        "images_per_reference": settings.images_per_reference,
        "sampler": sampler,
        "num_inference_steps": settings.num_inference_steps,
        "guidance_scale": settings.guidance_scale,
        "resolution": resolution,
        "weights": settings.weights.model_dump(),
        "resamples": settings.resamples,
    }


def fingerprint(facts: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of the facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()
