"""What a StarGAN experiment reads, checked before anything begins: latents, their batches, and the VAE that decodes them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import StarganExperiment
from fashion_ml.config.stargan import GanEvaluation
from fashion_ml.errors import InputError
from fashion_ml.runs.room import check_stargan_room
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.data.latent_domains import LatentSet
    from fashion_ml.data.stargan_batches import GanInputs


def read_latent_set(config: StarganExperiment, device: str, outputs: Path = Path("outputs")) -> LatentSet:
    """The latents of an experiment, `embedded` ones made in `outputs` if they are not there yet. InputError if networks do not fit them."""
    from fashion_ml.data.latents import read_latents

    given = config.data.latents_dir
    folder = _embedded_latents(device, outputs) if given == "embedded" else Path(given).expanduser()
    latents = read_latents(folder)
    if latents.shape[0] != config.network.latent_channels:
        raise InputError(
            tr(
                "network.latent_channels: {latent_channels}, but the latents have {shape}; set it to that",
                latent_channels=config.network.latent_channels,
                shape=latents.shape[0],
            )
        )
    sides = latents.shape[1:]
    fits = {
        "g_layers": lambda n: all(side % 2**n == 0 and side >= 2 ** (n + 1) for side in sides),
        "d_layers": lambda n: min(sides) >= 2**n,
    }
    for name, fit in fits.items():
        halvings = getattr(config.network, name)
        if not fit(halvings):
            most = max(n for n in range(halvings) if fit(n))
            what = tr(
                "{halvings} halvings do not fit latents of {sides} x {sides_2}",
                halvings=halvings,
                sides=sides[0],
                sides_2=sides[1],
            )
            raise InputError(tr("network.{name}: {what}; use at most {most}", name=name, what=what, most=most))
    return latents


def embedded_latents_are_there() -> bool:
    """Whether an earlier training made the embedded domains' latents below `outputs/`."""
    return (_embedded_place(Path("outputs")) / "packed.json").is_file()


def _embedded_place(outputs: Path) -> Path:
    from fashion_ml.embedded import EMBEDDED_DIR
    from fashion_ml.embedded.domains import VERSION

    weights = EMBEDDED_DIR / "stable_diffusion" / "vae" / "diffusion_pytorch_model.safetensors"
    named = f"latents_{hashlib.sha256(weights.read_bytes()).hexdigest()[:8]}"  # another VAE makes others
    return (outputs / f"embedded_domains_v{VERSION}" / named).absolute()


def _embedded_latents(device: str, outputs: Path) -> Path:
    """The embedded domains, drawn and encoded below `outputs` where they are not there yet."""
    from filelock import FileLock

    from fashion_ml.data.encode_latents import encode_folder
    from fashion_ml.embedded.domains import write_domains

    latents = _embedded_place(outputs)
    place = latents.parent
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / "lock"):  # trials of a sweep begin together
        if not (latents / "packed.json").is_file():
            images = write_domains(place / "images")
            encode_folder(images, latents, "embedded", size=64, flips=False, packed=True, device=device)
    return latents


def stargan_inputs(config: StarganExperiment, latents: LatentSet, accelerator: Any) -> GanInputs:
    """The batches of an experiment, for this process."""
    from fashion_ml.data.stargan_batches import GanInputs

    training = config.training
    return GanInputs(
        latents,
        validation_split=config.data.validation_split,
        contents_by=config.data.contents_by,
        batch_size=training.batch_size,
        epoch_size=training.epoch_size,
        latent_dim=config.network.latent_dim,
        scale=training.latent_scale,
        seed=training.seed,
        device=accelerator.device,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
    )


def training_inputs(config: StarganExperiment, latents: LatentSet, accelerator: Any) -> GanInputs:
    """`stargan_inputs` of a training. InputError where a step needs more memory than there is."""
    inputs = stargan_inputs(config, latents, accelerator)
    check_stargan_room(config, inputs, accelerator.device)
    return inputs


def evaluation_vae(config: StarganExperiment, vae: Any, sha256: str, device: Any) -> tuple[Any, str]:
    """The VAE that decodes what is measured, and its hash: `evaluation.vae`, else the experiment's own. InputError when it does not fit."""
    from fashion_ml.models.vae import load_other_vae
    from fashion_ml.runtime.weights_hash import weights_sha256

    other = config.evaluation.vae
    if other is None or not config.evaluation.enabled:
        return vae, sha256
    found = load_other_vae(other, vae, device)
    return found, weights_sha256(found)


def with_precision(settings: GanEvaluation, device: Any) -> GanEvaluation:
    """The settings of an evaluation with the precision that `auto` means on the device."""
    from fashion_ml.training.precision import settled

    found = settled(settings.precision, device)
    found = "no" if found == "fp16" else found  # a GPU without bf16: a VAE overflows in fp16
    return settings.model_copy(update={"precision": found})


def lower_vaes(config: StarganExperiment, vaes: Collection[Any], device: Any) -> None:
    """Let the VAEs decode in the experiment's precision from here, and encode no more; their hashes are of before."""
    from fashion_ml.models.half_precision import lower_vae
    from fashion_ml.models.vae import keep_decoder
    from fashion_ml.training.precision import DTYPES

    for vae in vaes:
        keep_decoder(vae)
        lower_vae(vae, DTYPES[with_precision(config.evaluation, device).precision])


def checked_vae(config: StarganExperiment, latents: LatentSet, device: Any) -> tuple[Any, str]:
    """The VAE of an experiment and its hash. InputError when the latents' manifest names another one, or another scale."""
    from fashion_ml.models.vae import load_vae
    from fashion_ml.runtime.weights_hash import weights_sha256

    vae = load_vae(config.model.vae, device)
    sha256, manifest = weights_sha256(vae), latents.manifest
    if manifest and manifest["vae_sha256"] != sha256:
        raise InputError(
            tr(
                "model.vae: {vae!r} is not the VAE that made these latents ({vae_2!r}); give that one, or encode again",
                vae=config.model.vae,
                vae_2=manifest["vae"],
            )
        )
    if manifest and abs(manifest["latent_scale"] - config.training.latent_scale) > 1e-6:
        scale = manifest["latent_scale"]
        raise InputError(
            tr(
                "training.latent_scale: {latent_scale}, but these latents' VAE has {scale}; set it to {scale}",
                latent_scale=config.training.latent_scale,
                scale=scale,
            )
        )
    if vae.config.latent_channels != latents.shape[0]:
        raise InputError(
            tr(
                "model.vae: {vae!r} has {latent_channels} channels, the latents have {shape}",
                vae=config.model.vae,
                latent_channels=vae.config.latent_channels,
                shape=latents.shape[0],
            )
        )
    return vae, sha256
