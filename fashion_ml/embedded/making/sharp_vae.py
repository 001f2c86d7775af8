"""The VAE's second half of training: twice the channels, structural similarity, lines of one pixel, latents near where they were."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from fashion_ml.embedded.making.budget import Budget
from fashion_ml.embedded.making.likeness import structural_similarity, with_lines, with_luma
from fashion_ml.embedded.making.vae import new_vae, recoloured
from fashion_ml.embedded.making.widening import widened
from fashion_ml.embedded.making.world import DIPPED_SEED, TRAIN_SEED, VARIED_SEED, rendered, to_images

log = logging.getLogger(__name__)

_COARSE = 0.85
"""The share of steps in bf16, which is about twice as fast; the last ones settle the flat parts in float32."""
_LINES = 10
"""How much more an error on a line weighs: lines cover a hundredth of the pixels, and were left out for less."""


def sharpen_vae(
    vae_dir: Path,
    cache_dir: Path,
    *,
    pictures: int,
    steps: int,
    batch_size: int = 12,
    rate: float = 5e-4,
    seed: int = 6,
    minutes: float | None = None,
    device: str = "cpu",
) -> None:
    """Widen the saved VAE, unless it is wide, and train it on with structural similarity, keep the moving average, save in fp16.

    It sees `studio`, `varied` and dip-dyed pictures, and lines of one pixel drawn on them: like the large one, it is to hold pictures that the
    UNet knows nothing of. Its latents are held near those of the saved encoder, so that a UNet trained on them can be trained on.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    parts = ((TRAIN_SEED, "studio"), (VARIED_SEED, "varied"), (DIPPED_SEED, "dip-dyed"))
    pixels = torch.cat([rendered(pictures, number, cache_dir, finish)[1] for number, finish in parts])
    teacher = AutoencoderKL.from_pretrained(vae_dir).float().eval().requires_grad_(False).to(device)
    wide = teacher.config.block_out_channels[0] > new_vae().config.block_out_channels[0]
    vae = (copy.deepcopy(teacher) if wide else widened(teacher, seed)).requires_grad_(True).train()
    vae.to(memory_format=torch.channels_last)
    average = copy.deepcopy(vae).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=rate, weight_decay=1e-4, betas=(0.9, 0.98))
    budget, running = Budget(steps, minutes), 0.0
    while budget.share < 1:
        share = budget.begin_step(optimizer, rate)
        rows = torch.from_numpy(rng.integers(0, len(pixels), batch_size))
        images, lines = (part.to(device) for part in with_lines(recoloured(to_images(pixels[rows]), rng), rng))

        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=share < _COARSE):
            posterior = vae.encode(images.contiguous(memory_format=torch.channels_last)).latent_dist
            output = vae.decode(posterior.sample()).sample.float()
            with torch.no_grad():
                held = teacher.encode(images).latent_dist.mean
        moved = (posterior.mean - held).square().mean()
        loss, alike = _unlike(output, images, lines)
        loss = loss + 0.03 * moved + 1e-6 * posterior.kl().mean()

        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        budget.follow(average, vae, 0.995)
        running = 0.97 * running + 0.03 * alike.item()
        if budget.step % 25 == 0:
            mean = running / (1 - 0.97**budget.step)
            log.info("sharp_vae %s ssim %.4f moved %.4f", budget, mean, moved.item())
        if budget.step % 200 == 0:
            _save(average, pixels[:128], vae_dir, device)
    _save(average, pixels[:1024], vae_dir, device)
    log.info("sharp_vae ended: %s", budget)


def _unlike(output: torch.Tensor, images: torch.Tensor, lines: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How far output and images (B, 3, H, W) are apart, in values, structure, edges and tone, 0-d; and their SSIM, 0-d."""
    error = ((output - images).abs() * (1 + _LINES * lines)).mean()
    alike = structural_similarity(with_luma(output), with_luma(images))
    across, down = ((output.diff(dim=axis) - images.diff(dim=axis)).abs().mean() for axis in (2, 3))
    tone = (F.avg_pool2d(output, 4) - F.avg_pool2d(images, 4)).square().mean()
    return error + (1 - alike) + 0.5 * (across + down) + 5 * tone, alike


@torch.no_grad()
def _save(vae: AutoencoderKL, studio: torch.Tensor, vae_dir: Path, device: str) -> None:
    """With `scaling_factor` = 1 / standard deviation of the latents of studio pictures (N, 3, 64, 64) uint8, in fp16."""
    latents = torch.cat([vae.encode(to_images(part).to(device)).latent_dist.mean for part in studio.split(64)])
    saved = copy.deepcopy(vae)
    saved.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    saved.half().save_pretrained(vae_dir)
