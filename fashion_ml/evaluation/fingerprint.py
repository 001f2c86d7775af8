"""What produced a metric: numbers with different fingerprints cannot be compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from fashion_ml.config import Evaluation
from fashion_ml.data.images import CaptionedImage, data_digest, file_digest
from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.evaluation.toy import TOY
from fashion_ml.metrics.attributes import Attributes
from fashion_ml.metrics.bootstrap import METHOD
from fashion_ml.metrics.fashion_clip import FashionClip
from fashion_ml.metrics.metric import Metric
from fashion_ml.models.samplers import timesteps_in
from fashion_ml.models.text_encoding import USUAL, TextSettings
from fashion_ml.runtime.provenance import installed_versions

VERSIONS = "versions"
"""Noted facts: versions of libraries, which should not change a number. They are stored, and shown where they differ, and refuse nothing."""
REFERENCE_FILES = "reference_files"
"""Noted fact: the first digits of the SHA-256 of each reference's picture, by which references that two evaluations share are found."""
_DIGITS = 12
_NOT_HASHED = ("encoder", VERSIONS, TOY, REFERENCE_FILES)
"""The name of an encoder too: the same weights may be called differently on another machine. What is said of it, which is no setting. And
single references, which references_sha256 is of."""
INTERVALS = "intervals"
_ONCE_ONLY: Mapping[str, Any] = {
    **USUAL.to_dict(),
    "token_free_base": False,
    "negative_prompt": "",
    "vae_sha256": None,
    "precision": "no",
    "timesteps": None,
    "free_prompts": None,
    "fashion_clip_score": "cosine",
    "dino": None,
    "inception": None,
    INTERVALS: "percentile bootstrap",
}
"""Facts that evaluations of earlier versions do not have, and the only value that they could have."""
_CHOSEN = object()
_PACKAGES = {"torch": "torch", "diffusers": "diffusers", "open_clip": "open_clip_torch"}


def measuring_facts(
    metrics: Collection[Metric],
    encoder: FashionClip | None,
    attributes: Attributes | None,
    *,
    weights: Mapping[str, float],
    resamples: int,
    libraries: Collection[str],
) -> dict[str, Any]:
    """Everything about the instruments that the scores depend on; None for what was left out.

    `metrics` are those measured: the version of each and its formula's parameters are facts. `libraries` (of torch, diffusers, open_clip) are
    those that took part.
    """
    versions = installed_versions()
    return {
        "encoder": encoder.name if encoder else None,
        "encoder_sha256": encoder.weights_sha256 if encoder else None,
        "encoder_structure_sha256": encoder.structure_sha256 if encoder else None,
        "encoder_transform": encoder.transform if encoder else None,
        "encoder_precision": encoder.precision if encoder else None,
        "attributes_sha256": attributes.sha256 if attributes else None,
        "attribute_categories": [category.name for category in attributes.categories] if attributes else None,
        "metrics": {metric.name: metric.parameters for metric in metrics},
        "weights": dict(weights) if encoder else None,
        "resamples": resamples,
        INTERVALS: METHOD,
        VERSIONS: {name: versions.get(_PACKAGES[name]) for name in libraries if encoder or name != "open_clip"},
    }


def suite_facts(settings: Evaluation, suite: MetricSuite, libraries: Collection[str]) -> dict[str, Any]:
    """The measuring facts of a suite."""
    facts = measuring_facts(
        suite.metrics,
        suite.encoder,
        suite.attributes,
        weights=settings.weights.model_dump(),
        resamples=settings.resamples,
        libraries=libraries,
    )
    return {**facts, "fashion_clip_score": settings.fashion_clip_score, "dino": suite.dino.facts() if suite.dino else None}


def evaluation_facts(
    settings: Evaluation,
    references: Sequence[CaptionedImage],
    suite: MetricSuite,
    sizes: Sequence[tuple[int, int]],
    sampler: str,
    scheduler: Mapping[str, Any],
    text: TextSettings = USUAL,
    vae_sha256: str | None = None,
) -> dict[str, Any]:
    """Everything but the model that the scores of generated images depend on.

    `scheduler` is the configuration of what samples, `text` how prompts are read, `vae_sha256` of the VAE where it is not the base's.
    """
    return {
        **suite_facts(settings, suite, ("torch", "diffusers", "open_clip")),
        "references_sha256": data_digest(references),
        REFERENCE_FILES: [file_digest(reference)[:_DIGITS] for reference in references],
        "references": len(references),
        "prompts": [reference.caption for reference in references],
        **text.to_dict(),
        "reference_fit": "shorter side scaled, centre crop",
        "seed": settings.seed,
        "images_per_reference": settings.images_per_reference,
        "negative_prompt": settings.negative_prompt,
        "vae_sha256": vae_sha256,
        "precision": "no" if settings.precision == "auto" else settings.precision,  # a plan has settled what auto is on a GPU
        "timesteps": timesteps_in(settings.sampler, settings.precision),
        "sampler": sampler,
        "scheduler": scheduler_facts(scheduler),
        "num_inference_steps": settings.num_inference_steps,
        "guidance_scale": settings.guidance_scale,
        "rotations": settings.rotations,
        "sizes": sorted({f"{width}x{height}" for width, height in sizes}),
    }


def scheduler_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the sampling: a diffusers scheduler's configuration without its notes (class, version, which values were defaults)."""
    told = {key: value for key, value in config.items() if not key.startswith("_")}
    return json.loads(json.dumps(told, sort_keys=True, default=str))


def fingerprint(facts: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of the facts, without those that are only noted, and those that are as they were for evaluations from
    before there was a choice."""
    hashed = {key: value for key, value in facts.items() if key not in _NOT_HASHED and value != _ONCE_ONLY.get(key, _CHOSEN)}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What differs between two sets of facts, a line each: `field: one value, another value`; fields of fields are named by dots."""
    skipped = (*_NOT_HASHED, "fingerprint")
    one, other = (
        {key: value for key, value in {**_ONCE_ONLY, **facts}.items() if key not in skipped} for facts in (first, second)
    )
    return [f"{key}: {_short(a)}, {_short(b)}" for key, a, b in _differing(one, other)]


def noted_difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """The noted facts that differ, a line each: `torch: one version, another version`; of evaluations that noted none, nothing."""
    one, other = first.get(VERSIONS), second.get(VERSIONS)
    return [f"{key}: {a}, {b}" for key, a, b in _differing(one, other)] if one and other else []


def _differing(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for key in sorted(first.keys() | second.keys()):
        a, b = first.get(key), second.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from _differing(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key}", a, b


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
