"""The small AutoencoderKL: 64 x 64 x 3 pixels to 16 x 16 x 4 latents and back."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from fashion_ml.embedded.making.world import TRAIN_SEED, VARIED_SEED, rendered, to_images

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


def recoloured(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Channels swapped, inverted, dimmed and tinted in two pictures of five, so that colours outside the world survive too."""
    images = images.clone()
    for index in range(len(images)):
        if rng.random() < 0.4:
            gain = rng.uniform(0.3, 1.0, 3) * rng.choice([-1, 1])
            offset = rng.uniform(-1, 1, 3) * (1 - np.abs(gain))
            tint = [torch.tensor(values, dtype=images.dtype)[:, None, None] for values in (gain, offset)]
            images[index] = images[index, rng.permutation(3)] * tint[0] + tint[1]
    return images


def train_vae(
    out_dir: Path,
    cache_dir: Path,
    *,
    pictures: int,
    steps: int,
    batch_size: int = 8,
    seed: int = 1,
    refine: bool = False,
    device: str = "cpu",
) -> None:
    """Train and save in fp16, with `scaling_factor` = 1 / standard deviation of the latents, as in Stable Diffusion.

    Half of the pictures are `varied`: like the large one, it is to hold pictures that the UNet knows nothing of. With `refine` the saved VAE
    is trained on, for detail: a lower rate, no anchor on the colour thumbnail.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    _, studio = rendered(pictures, TRAIN_SEED, cache_dir)
    _, varied = rendered(pictures, VARIED_SEED, cache_dir, "varied")
    pixels = torch.cat([studio, varied])
    vae = AutoencoderKL.from_pretrained(out_dir).float() if refine else new_vae()
    vae.to(device).train()
    rate, detail = (1.5e-3, 0.6) if refine else (2e-3, 0.3)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=rate, weight_decay=1e-4, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.06)
    start = time.monotonic()
    for step in range(1, steps + 1):
        images = recoloured(to_images(pixels[rng.integers(0, len(pixels), batch_size)]), rng).to(device)

        posterior = vae.encode(images).latent_dist
        output = vae.decode(posterior.sample()).sample
        thumbnail = F.avg_pool2d(images, 4)
        error = (output - images).abs()
        edges = sum((output.diff(dim=d) - images.diff(dim=d)).abs().mean() for d in (2, 3))
        tone = (F.avg_pool2d(output, 4) - thumbnail).square().mean()
        # three latent channels begin as the colour thumbnail: left alone, training spends all four on detail and loses hues
        anchor = (posterior.mean[:, :3] - 2 * thumbnail).square().mean() * (0 if refine else max(0.0, 1 - 2 * step / steps))
        loss = error.mean() + 2 * error.square().mean() + 5 * tone + detail * edges + anchor + 1e-6 * posterior.kl().mean()

        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            elapsed = time.monotonic() - start
            log.info("vae step %d/%d l1 %.4f tone %.4f (%.0f s)", step, steps, error.mean().item(), tone.item(), elapsed)

    vae.eval()
    with torch.no_grad():
        latents = torch.cat([vae.encode(to_images(p).to(device)).latent_dist.mean for p in studio[:1024].split(64)])
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    vae.half().save_pretrained(out_dir)
