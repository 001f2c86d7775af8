"""What an evaluation keeps of a VAE."""

from __future__ import annotations

from fashion_ml.models.vae import keep_decoder, load_vae
from fashion_ml.runtime.weights_hash import weights_sha256


def hash_of(vae: str) -> str:
    """Of the whole VAE."""
    return weights_sha256(load_vae(vae))


def decoder_of(vae: str) -> str:
    """The hash of the half of a VAE that decodes."""
    found = load_vae(vae)
    keep_decoder(found)
    return weights_sha256(found)
