"""What a StarGAN's scores depend on beside its networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fashion_ml.config.stargan import GanEvaluation
from fashion_ml.data.stargan_batches import GanInputs
from fashion_ml.evaluation.fingerprint import measuring_facts
from fashion_ml.evaluation.gan_instruments import GanInstruments


def facts_of_stargan(
    settings: GanEvaluation,
    inputs: GanInputs,
    held: Sequence[Sequence[int]],
    instruments: GanInstruments,
    scale: float,
    vae_sha256: str,
) -> dict[str, Any]:
    """The metrics and what measures them, the latents, who is held out (by domain, numbers of latents), styles, seed, scale and VAE."""
    encoder, reader = instruments.encoder, instruments.reader
    return {
        **measuring_facts(
            instruments.metrics("stargan", "latent"),
            encoder,
            reader.attributes if reader else None,
            weights=settings.weights.model_dump(),
            resamples=settings.resamples,
            libraries=("torch", "diffusers", "open_clip"),
        ),
        **instruments.facts(),
        "ssim": "against the content",
        "latents_sha256": inputs.latents.digest(),
        "held_out": [inputs.latents.domains[y].files[i] for y, some in enumerate(held) for i in some],
        "contents_per_domain": settings.contents_per_domain,
        "targets": "domains other than the content's own",
        "domains": [domain.name for domain in inputs.latents.domains],
        "domain_prompt": settings.domain_prompt if encoder else None,
        "seed": settings.seed,
        "styles": settings.styles,
        "rotations": settings.rotations,
        "latent_scale": scale,
        "vae_sha256": vae_sha256,
        "precision": "no" if settings.precision == "auto" else settings.precision,  # settled before on a GPU
    }
