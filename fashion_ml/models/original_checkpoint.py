"""A pipeline as the tensors of a single-file checkpoint in the original Stable Diffusion layout; the inverse of reading one."""

from __future__ import annotations

import json
from typing import Any

import torch

from fashion_ml.models import single_file
from fashion_ml.models.families.known import family_of
from fashion_ml.models.original_names import OriginalNames, vae_name
from fashion_ml.runtime.language import tr

_STRUCTURE = ("down_block_types", "up_block_types", "layers_per_block", "transformer_layers_per_block")
"""What says where a UNet's modules are."""
UNET, VAE = "model.diffusion_model.", "first_stage_model."


def original_tensors(pipeline: Any) -> dict[str, torch.Tensor]:
    """The three or four models of a pipeline in one, with the markers `v_pred` if it predicts v and `ztsnr` if its schedule ends in pure noise.

    ValueError for another architecture than that of Stable Diffusion 1.x or SDXL (levels, layers, kinds of text encoders).
    """
    family, unet, vae = family_of(pipeline), pipeline.unet, pipeline.vae
    known = json.loads((single_file.CONFIGS / family.name / "unet" / "config.json").read_bytes())
    if not family.single_file or any(_plain(unet.config.get(key)) != known[key] for key in _STRUCTURE if key in known):
        raise ValueError(
            tr(
                "only the architectures of Stable Diffusion 1.x and XL, block by block, have a single-file form here; a folder takes any"
            )
        )
    names, last = OriginalNames(unet.config), len(vae.config.block_out_channels) - 1
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in unet.state_dict().items():
        original = names.of(name)
        if original is None:
            raise ValueError(tr("{name} has no place in the original layout", name=name))
        tensors[UNET + original] = tensor
    for name, tensor in vae.state_dict().items():
        original = vae_name(name, last)
        flat_attention = ".attn_1." in original and original.endswith("weight") and tensor.dim() == 2
        tensors[VAE + original] = tensor[:, :, None, None] if flat_attention else tensor
    for part, encoder in zip(family.texts, family.encoders(pipeline), strict=True):
        tensors |= part.to_original(encoder.state_dict())
    if pipeline.scheduler.config.prediction_type == "v_prediction":
        tensors["v_pred"] = torch.tensor([])
    if pipeline.scheduler.config.get("rescale_betas_zero_snr"):
        tensors["ztsnr"] = torch.tensor([])
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
