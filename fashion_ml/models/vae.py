"""The VAE alone: where it comes from, and pictures of its latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fashion_ml.embedded import EMBEDDED_DIR
from fashion_ml.errors import InputError
from fashion_ml.models.base_folder import read_model
from fashion_ml.models.finite import NotFiniteError
from fashion_ml.models.hub import download_vae
from fashion_ml.models.single_file import load_single_vae
from fashion_ml.models.stable_diffusion import quiet_libraries
from fashion_ml.runtime.float32 import exact_float32
from fashion_ml.runtime.language import marked, tr, translated
from fashion_ml.runtime.redact import first_line
from fashion_ml.runtime.weight_files import is_path, is_safetensors, not_there

_CELLS_AT_ONCE = 16 * 32 * 32
"""Latent cells that a CPU decodes at once."""
FORMS = marked("use embedded, a hub id, a diffusers folder (of a pipeline or of the VAE alone), or a .safetensors file")


def load_vae(name: str, device: torch.device | str = "cpu", field: str = "model.vae", scale: float | None = None) -> Any:
    """A frozen float32 `AutoencoderKL` in evaluation mode, every weight from its file. InputError, naming the setting, if it cannot be had.
    `scale` is the scaling_factor where a file does not say it."""
    try:
        with quiet_libraries():
            vae = _load(name, field, scale)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            tr(
                "{field}: {name!r} cannot be loaded ({first_line}); {forms}",
                field=field,
                name=name,
                first_line=first_line(error),
                forms=translated(FORMS),
            )
        ) from error
    return vae.float().requires_grad_(False).eval().to(device)


def _load(name: str, field: str, scale: float | None) -> Any:
    path = EMBEDDED_DIR / "stable_diffusion" if name == "embedded" else Path(name).expanduser()
    if path.is_file():
        if not is_safetensors(path):
            raise InputError(
                tr(
                    "{field}: {name!r} is no .safetensors file; such files can run code, convert it first",
                    field=field,
                    name=name,
                )
            )
        return load_single_vae(path, f"{field}: {name!r}", scale)
    if path.is_dir():
        folder = path / "vae" if (path / "vae").is_dir() else path
    elif is_path(name):
        raise not_there(name, field)
    elif "/" not in name:
        raise InputError(tr("{field}: {name!r} is not known; {forms}", field=field, name=name, forms=translated(FORMS)))
    else:
        folder = download_vae(name)
    if not (folder / "config.json").is_file():
        raise InputError(
            tr("{field}: {name!r} holds no VAE (no config.json); {forms}", field=field, name=name, forms=translated(FORMS))
        )
    return read_model(folder, "vae", f"{field}: {str(folder)!r}")[0]


def vae_factor_of(vae: Any) -> int:
    """Pixels per latent cell: 8 for Stable Diffusion, 4 for the embedded VAE."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


def load_other_vae(name: str, own: Any, device: torch.device | str = "cpu") -> Any:
    """The VAE of `evaluation.vae`, which decodes what another, `own`, was trained with. InputError when its latents are of another form or
    scale: those of Stable Diffusion 1.x and of XL are not alike."""
    other = load_vae(name, device, "evaluation.vae", own.config.scaling_factor)
    forms = [(one.config.latent_channels, vae_factor_of(one)) for one in (own, other)]
    if forms[0] != forms[1]:
        raise InputError(
            tr(
                "evaluation.vae: {!r} has {} channels and factor {}, the model's own has {} and {}; give one of the same form"
            ).format(name, *forms[1], *forms[0])
        )
    scales = [one.config.scaling_factor for one in (own, other)]
    if scales[0] != scales[1]:
        raise InputError(
            tr(
                "evaluation.vae: {name!r} has scaling_factor {other}, the model's own {own}: it is of another family, whose "
                "latents mean something else; give one of the same",
                name=name,
                other=scales[1],
                own=scales[0],
            )
        )
    return other


def keep_decoder(vae: Any) -> None:
    """Let go of the half of a VAE that encodes, where nothing is encoded any more: 0.13 GiB of Stable Diffusion's."""
    vae.encoder, vae.quant_conv = torch.nn.Identity(), None


@torch.no_grad()
def decode_latents(vae: Any, latents: torch.Tensor, batch_size: int = 16) -> list[Image.Image]:
    """RGB pictures of *unscaled* latents (N, C, h, w); on a GPU one after the other, which takes 1 GiB at 512 pixels in float32, and half of
    that in bf16; on a CPU `batch_size` at once, or fewer where more latent cells would be decoded than 16 pictures of 256 pixels have.
    NotFiniteError where latents or pictures are not finite: they would be black."""
    if not bool(latents.isfinite().all()):
        raise NotFiniteError(
            tr(
                "optimizer.learning_rate: the latents of pictures are NaN or infinity, which would be black "
                "pictures; train with a lower one, or with training.mixed_precision bf16 or no"
            )
        )
    pictures = []
    at_once = 1 if vae.device.type == "cuda" else max(1, min(batch_size, _CELLS_AT_ONCE // latents[0, 0].numel()))
    for part in torch.split(latents, at_once):
        with exact_float32():
            decoded = vae.decode(part.to(vae.device, vae.dtype)).sample.float()
        if not bool(decoded.isfinite().all()):
            raise NotFiniteError(
                tr(
                    "model.vae: it gives NaN or infinity in {dtype}, which would be black pictures; give another",
                    dtype=vae.dtype,
                )
            )
        decoded = decoded.clamp(-1, 1)
        pixels = ((decoded + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        pictures += [Image.fromarray(np.ascontiguousarray(one)) for one in pixels]
    return pictures
