"""The VAE alone: where it comes from, and pictures of its latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fashion_ml.embedded import EMBEDDED_DIR
from fashion_ml.errors import InputError
from fashion_ml.models.single_file import CONFIGS, load_single_file, read_header
from fashion_ml.models.stable_diffusion import quiet_libraries
from fashion_ml.runtime.redact import first_line

FORMS = "use embedded, a hub id, a diffusers folder (of a pipeline or of the VAE alone), or a .safetensors file"


def load_vae(name: str, device: torch.device | str = "cpu") -> Any:
    """A frozen float32 `AutoencoderKL` in evaluation mode. InputError, naming the setting, when it cannot be had."""
    try:
        with quiet_libraries():
            vae = _load(name)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"model.vae: {name!r} cannot be loaded ({first_line(error)}); {FORMS}") from error
    return vae.float().requires_grad_(False).eval().to(device)


def _load(name: str) -> Any:
    from diffusers import AutoencoderKL

    path = EMBEDDED_DIR / "stable_diffusion" if name == "embedded" else Path(name).expanduser()
    if path.is_dir():
        folder = path / "vae" if (path / "vae").is_dir() else path
        if not (folder / "config.json").is_file():
            raise InputError(f"model.vae: {name!r} holds no VAE (no config.json); {FORMS}")
        variant = None if (folder / "diffusion_pytorch_model.safetensors").is_file() else "fp16"
        return AutoencoderKL.from_pretrained(str(folder), local_files_only=True, variant=variant)
    if path.is_file():
        shapes, _ = read_header(path)
        if any(key.startswith("model.diffusion_model.") for key in shapes):
            return load_single_file(path).vae
        return AutoencoderKL.from_single_file(str(path), config=str(CONFIGS / "sd1" / "vae"), local_files_only=True)
    if "/" not in name or name.startswith((".", "/", "~")):
        raise InputError(f"model.vae: {name!r} is not known; {FORMS}")
    try:
        return AutoencoderKL.from_pretrained(name, subfolder="vae")
    except (OSError, ValueError):  # a repository of the VAE alone
        return AutoencoderKL.from_pretrained(name)


def vae_factor_of(vae: Any) -> int:
    """Pixels per latent cell: 8 for Stable Diffusion, 4 for the embedded VAE."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


@torch.no_grad()
def decode_latents(vae: Any, latents: torch.Tensor, batch_size: int = 16) -> list[Image.Image]:
    """RGB pictures of *unscaled* latents (N, C, h, w)."""
    pictures = []
    for part in torch.split(latents, batch_size):
        decoded = vae.decode(part.to(vae.device, vae.dtype)).sample.float().clamp(-1, 1)
        pixels = ((decoded + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        pictures += [Image.fromarray(np.ascontiguousarray(one)) for one in pixels]
    return pictures
