"""The Stable Diffusion base: where it comes from, its parts, and what its encoders make of images and captions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fashion_ml.embedded import EMBEDDED_DIR
from fashion_ml.errors import InputError
from fashion_ml.models.base_folder import check_folder, family_of_folder, read_pipeline
from fashion_ml.models.families.family import Family
from fashion_ml.models.families.known import FAMILIES, family_of
from fashion_ml.models.hub import download_pipeline
from fashion_ml.models.single_file import checkpoint_kind, load_single_file
from fashion_ml.models.text_encoding import USUAL, Text, TextSettings
from fashion_ml.runtime.float32 import exact_float32
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.loaded_weights import unwrapped
from fashion_ml.runtime.redact import first_line
from fashion_ml.runtime.tensor_tree import mapped
from fashion_ml.runtime.weight_files import is_path, is_safetensors, not_there, read_header

_PIXELS_ALONE = ("clip_sample", "set_alpha_to_one")
"""What DDIM does where nothing is said, and no latents are made for: schedulers of other kinds, as SDXL's, may say nothing of it."""
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


def find_base(base: str) -> str:
    """The folder, file or hub id that `base` names, checked as far as names and shapes go. InputError when it is none of the accepted forms."""
    if base == "embedded":
        return str(EMBEDDED_DIR / "stable_diffusion")
    try:
        path = Path(base).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError):  # a name that is too long, an unknown ~user
        raise not_there(base, "model.base") from None
    if is_folder:
        check_folder(base, path)
        return str(path)
    if is_file:
        if not is_safetensors(path):
            raise InputError(
                tr(
                    "model.base: {base!r} is no .safetensors file; such files can run code, convert it to .safetensors first",
                    base=base,
                )
            )
        shapes = read_header(path, "model.base").shapes
        checkpoint_kind(path, {unwrapped(name): shape for name, shape in shapes.items()})
        return str(path)
    if is_path(base):
        raise not_there(base, "model.base")
    if _HUB_ID.fullmatch(base):
        return base
    raise InputError(
        tr(
            "model.base: {base!r} is not known; use embedded, an existing diffusers folder or .safetensors file, "
            "or a hub id (owner/name)",
            base=base,
        )
    )


def family_on_disk(base: str) -> Family:
    """The family of a folder or file, of which no weights are read. InputError as find_base."""
    path = Path(find_base(base))
    if path.is_dir():
        return family_of_folder(path)
    shapes = read_header(path, "model.base").shapes
    kind = checkpoint_kind(path, {unwrapped(name): shape for name, shape in shapes.items()})
    return next(family for family in FAMILIES if family.name == kind)


def load_pipeline(
    base: str,
    device: torch.device | str = "cpu",
    unet_dtype: torch.dtype = torch.float32,
    prediction_type: str | None = None,
    zero_terminal_snr: bool | None = None,
) -> Any:
    """The pipeline of the base's family, frozen, in evaluation mode, on `device`, with DDIM.

    VAE and text encoders are float32, so that what they encode does not depend on the precision of training. What the UNet predicts, and
    whether the noise schedule ends in pure noise, are the base's own when not given. InputError when the base is unknown, cannot be loaded,
    is of no family known here, or its schedule ends in pure noise and it does not predict v.
    """
    from diffusers import DDIMScheduler

    source = find_base(base)
    try:
        with quiet_libraries():
            pipeline = _from_file_or_folder(source, prediction_type)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            tr(
                "model.base: {base!r} cannot be loaded ({first_line}); use embedded, a diffusers folder, a "
                ".safetensors file or a hub id",
                base=base,
                first_line=first_line(error),
            )
        ) from error
    family = family_of(pipeline)
    if not family.fits(pipeline):
        raise InputError(
            tr("model.base: {base!r} is no text-to-image Stable Diffusion 1.x, 2.x or XL; choose one that is", base=base)
        )
    unsaid = {name: False for name in _PIXELS_ALONE if name not in pipeline.scheduler.config}
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, **unsaid, **schedule_options(prediction_type, zero_terminal_snr)
    )
    _check_schedule(base, pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    for part in family.models:
        getattr(pipeline, part).requires_grad_(False).eval()
    with quiet_libraries():
        for part in family.models:
            getattr(pipeline, part).to(unet_dtype if part == "unet" else torch.float32)
        return pipeline.to(device)


def schedule_options(prediction_type: str | None, zero_terminal_snr: bool | None) -> dict[str, Any]:
    """What a diffusers scheduler is made with beside a base's own settings.

    Steps of a schedule that ends in pure noise begin at its end (`trailing`): Lin et al. 2023, arXiv:2305.08891, sections 3.1 and 3.3.
    """
    options: dict[str, Any] = {"prediction_type": prediction_type} if prediction_type else {}
    if zero_terminal_snr is None:
        return options
    return (
        options
        | {"rescale_betas_zero_snr": zero_terminal_snr}
        | ({"timestep_spacing": "trailing"} if zero_terminal_snr else {})
    )


def _check_schedule(base: str, schedule: Any) -> None:
    if schedule.get("rescale_betas_zero_snr") and schedule.prediction_type != "v_prediction":
        raise InputError(
            tr(
                "model.zero_terminal_snr: {base!r} predicts noise, of which pure noise tells nothing; use it with "
                "bases that predict v (model.prediction_type v_prediction), or set it to false",
                base=base,
            )
        )


def _from_file_or_folder(source: str, prediction_type: str | None) -> Any:
    path = Path(source)
    if path.is_file():
        return load_single_file(path, prediction_type)
    if not path.is_dir():
        path = download_pipeline(source)
        check_folder(source, path)
    return read_pipeline(path)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Without the progress bars and hints of diffusers and transformers; their errors still come through."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    levels = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
            library.enable_progress_bar()


def vae_factor(pipeline: Any) -> int:
    """Pixels per latent cell: 8 for Stable Diffusion, 4 for the embedded base."""
    return 2 ** (len(pipeline.vae.config.block_out_channels) - 1)


def check_resolution(resolution: int, pipeline: Any) -> None:
    """InputError unless the resolution is a multiple of the VAE's factor x 8, and leaves the UNet's deepest level something to normalise."""
    step = vae_factor(pipeline) * 8
    if resolution % step:
        near = max(round(resolution / step), 1) * step
        raise InputError(
            tr(
                "data.resolution: {resolution} is not divisible by {step} (the VAE's factor {step_2} x 8); use "
                "{near} for this base",
                resolution=resolution,
                step=step,
                step_2=step // 8,
                near=near,
            )
        )
    unet = pipeline.unet.config
    side = resolution // (vae_factor(pipeline) * 2 ** (len(unet.block_out_channels) - 1))
    if side**2 * unet.block_out_channels[-1] // unet.norm_num_groups <= 1:
        raise InputError(
            tr(
                "data.resolution: {resolution} leaves one number for a group of this base's deepest normalisation; use {value}",
                resolution=resolution,
                value=2 * resolution,
            )
        )


def to_images(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Equal-sized RGB pictures to float images (B, 3, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
@exact_float32()
def encode_latents(pipeline: Any, batches: Iterable[Sequence[Image.Image]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the *unscaled* latents of equal-sized pictures; each (N, 4, h, w), float32 without TF32, on the CPU."""
    vae = pipeline.vae
    means, deviations = [], []
    with _whole_batches(vae):
        for pictures in batches:
            posterior = vae.encode(to_images(pictures).to(vae.device, vae.dtype)).latent_dist
            means.append(posterior.mean.float().cpu())
            deviations.append(posterior.std.float().cpu())
    return torch.cat(means), torch.cat(deviations)


@contextmanager
def _whole_batches(vae: Any) -> Iterator[None]:
    """Inside the block a VAE that decodes one image after the other encodes those of a batch at once: diffusers has one switch for both."""
    sliced, vae.use_slicing = getattr(vae, "use_slicing", False), False
    try:
        yield
    finally:
        vae.use_slicing = sliced


@torch.no_grad()
@exact_float32()
def encode_captions(pipeline: Any, captions: Sequence[str], settings: TextSettings = USUAL, batch_size: int = 32) -> Text:
    """What the UNet reads of captions, float32, on the CPU: embeddings (N, L, D), L = 77 (152, 227 for 150 and 225 tokens) and D = 768 for
    SD 1.5, and in other families more than these."""
    family, parts = family_of(pipeline), list[Text]()
    for first in range(0, len(captions), batch_size):
        found = _encoded(pipeline, family, captions[first : first + batch_size], settings)
        parts.append(mapped(lambda one: one.float().cpu(), found))
    return mapped(lambda *some: torch.cat(some), parts[0], *parts[1:])


def _encoded(pipeline: Any, family: Family, captions: Sequence[str], settings: TextSettings) -> Text:
    encoders = family.encoders(pipeline)
    return family.encode(encoders, family.tokenize(pipeline, captions, settings).to(encoders[0].device), settings.clip_skip)


@torch.no_grad()
@exact_float32()
def prompt_embeddings(
    pipeline: Any, prompts: Sequence[str], negative: Sequence[str], settings: TextSettings
) -> dict[str, torch.Tensor]:
    """What a diffusers pipeline is called with instead of prompts and negative prompts of the same number, by its arguments' names.

    Both sides have one length and are encoded one after the other, as the pipeline does it itself: at the usual settings they are, bit for
    bit, what it would have made.
    """
    family = family_of(pipeline)
    embedded = [_encoded(pipeline, family, texts, settings) for texts in (prompts, negative)]
    return family.arguments(embedded[0], embedded[1], negative, pipeline)
