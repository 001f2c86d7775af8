"""A VAE of twice the channels that computes what the narrow one did."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL

_UNEQUAL = 0.3


def widened(vae: AutoencoderKL, seed: int = 0) -> AutoencoderKL:
    """An AutoencoderKL with twice the `block_out_channels`, whose outputs equal those of `vae`; its latents keep their 4 channels.

    Every hidden channel stands twice, and what was read from it is read from both in unequal parts, so that training can tell them apart
    (Chen et al. 2016, Net2Net, arXiv:1511.05641). Neighbours share a group, so that group norms see the statistics they saw.
    """
    generator = torch.Generator().manual_seed(seed)
    config = dict(vae.config)
    config["block_out_channels"] = tuple(2 * count for count in config["block_out_channels"])
    wide = AutoencoderKL.from_config(config).to(next(vae.parameters()).device)
    shapes = {name: tensor.shape for name, tensor in wide.state_dict().items()}
    wide.load_state_dict(
        {name: _doubled(name, tensor, shapes[name], generator) for name, tensor in vae.float().state_dict().items()}
    )
    return wide


def _doubled(name: str, tensor: torch.Tensor, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """One tensor of the narrow VAE in the shape of the wide one."""
    if tensor.shape[0] != shape[0]:
        tensor = tensor.repeat_interleave(2, 0)
    if tensor.ndim > 1 and tensor.shape[1] != shape[1]:
        part = 0.5 + _UNEQUAL * (torch.rand(tensor.shape, generator=generator).to(tensor.device) - 0.5)
        tensor = torch.stack([tensor * part, tensor * (1 - part)], 2).flatten(1, 2)
    if ".to_q." in name:  # q.k sums over twice the channels, and is divided by the root of twice the channels
        tensor = tensor / 2**0.5
    return tensor.contiguous()
