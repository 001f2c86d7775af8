"""The small AutoencoderKL: 64 x 64 x 3 pixels to 16 x 16 x 4 latents and back."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from fashion_ml.embedded.making.world import TRAIN_SEED, rendered, to_images

log = logging.getLogger(__name__)


def new_vae() -> AutoencoderKL:
    """An untrained AutoencoderKL of the embedded size (0.68 M parameters, factor 4, 4 latent channels)."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        sample_size=64,
    )


def _recoloured(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Channels swapped or inverted in a third of the pictures, so that colours outside the world survive the VAE too."""
    images = images.clone()
    for index in range(len(images)):
        if rng.random() < 0.33:
            images[index] = images[index, rng.permutation(3)] * float(rng.choice([-1, 1])) * rng.uniform(0.6, 1.0)
    return images


def train_vae(out_dir: Path, cache_dir: Path, *, pictures: int, steps: int, batch_size: int = 16, seed: int = 1) -> None:
    """Train and save in fp16, with `scaling_factor` = 1 / standard deviation of the latents, as in Stable Diffusion."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    _, pixels = rendered(pictures, TRAIN_SEED, cache_dir)
    vae = new_vae()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, weight_decay=1e-4, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.06)
    start = time.monotonic()
    for step in range(1, steps + 1):
        images = _recoloured(to_images(pixels[rng.integers(0, len(pixels), batch_size)]), rng)

        posterior = vae.encode(images).latent_dist
        output = vae.decode(posterior.sample()).sample
        error = (output - images).abs()
        edges = sum((output.diff(dim=d) - images.diff(dim=d)).abs().mean() for d in (2, 3))
        loss = error.mean() + 2 * error.square().mean() + 0.5 * edges + 2e-6 * posterior.kl().mean()

        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            log.info("vae step %d/%d l1 %.4f (%.0f s)", step, steps, error.mean().item(), time.monotonic() - start)

    vae.eval()
    with torch.no_grad():
        latents = torch.cat([vae.encode(to_images(p)).latent_dist.mean for p in pixels[:1024].split(64)])
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    vae.half().save_pretrained(out_dir)
