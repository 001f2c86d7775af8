"""The small Stable Diffusion: a text encoder and a UNet over the small VAE's latents, trained together."""

from __future__ import annotations

import copy
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from fashion_ml.embedded.making.tokenizer import CONTEXT_LENGTH, save_tokenizer
from fashion_ml.embedded.making.world import TRAIN_SEED, noisy_caption, rendered, to_images

log = logging.getLogger(__name__)


def new_text_encoder(vocab_size: int, bos: int, eos: int) -> CLIPTextModel:
    """An untrained CLIPTextModel: 2 layers, width 128, 32 positions."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=128,
            intermediate_size=512,
            projection_dim=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT_LENGTH,
            bos_token_id=bos,
            eos_token_id=eos,
            pad_token_id=eos,
        )
    )


def new_unet() -> UNet2DConditionModel:
    """An untrained UNet: 16 x 16 x 4 latents, two levels, attention in both, 4.3 M parameters."""
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def train_stable_diffusion(
    base_dir: Path,
    cache_dir: Path,
    *,
    pictures: int,
    steps: int,
    batch_size: int = 32,
    seed: int = 3,
    compiled: bool = True,
    refine: bool = False,
) -> None:
    """Train text encoder and UNet on noise prediction (min-SNR 5, arXiv:2303.09556), keep the moving average, save in fp16.

    With `refine` the saved ones are trained on at half the rate.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    tokenizer = save_tokenizer(base_dir / "tokenizer")
    text_encoder, unet = _parts(base_dir, tokenizer, refine=refine)
    vae = AutoencoderKL.from_pretrained(base_dir / "vae", torch_dtype=torch.float32)
    scheduler = _scheduler()
    garments, pixels = rendered(pictures, TRAIN_SEED, cache_dir)
    latents = _scaled_latents(vae, pixels)

    trained = torch.nn.ModuleDict({"text_encoder": text_encoder, "unet": unet}).train()
    average = copy.deepcopy(trained).eval().requires_grad_(False)
    parameters = list(trained.parameters())
    rate = 6e-4 if refine else 1.2e-3
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.05)
    predict = torch.compile(unet) if compiled else unet
    snr = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)
    weights = torch.clamp(snr, max=5) / snr
    running, start = 0.0, time.monotonic()
    for step in range(1, steps + 1):
        rows = rng.integers(0, len(latents), batch_size)
        captions = [noisy_caption(garments[row], rng) for row in rows]
        tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        noise = torch.randn(batch_size, *latents.shape[1:])
        timesteps = torch.randint(0, 1000, (batch_size,))

        noisy = scheduler.add_noise(latents[rows], noise, timesteps)
        output = predict(noisy, timesteps, text_encoder(tokens).last_hidden_state).sample
        error = (output - noise).square().mean((1, 2, 3))
        loss = (error * weights[timesteps]).mean()

        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        decay = min(0.997, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in parameters], 1 - decay)
        running = 0.98 * running + 0.02 * error.mean().item()
        if step % 50 == 0:
            mse, seconds = running / (1 - 0.98**step), time.monotonic() - start
            log.info("stable_diffusion step %d/%d mse %.4f (%.0f s)", step, steps, mse, seconds)
        if step % 500 == 0 or step == steps:
            _save(base_dir, vae, average, tokenizer, scheduler)


def _parts(base_dir: Path, tokenizer: Any, *, refine: bool) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """Text encoder and UNet to train: untrained, or with `refine` the saved ones."""
    if refine:
        text_encoder = CLIPTextModel.from_pretrained(base_dir / "text_encoder").float()
        return text_encoder, UNet2DConditionModel.from_pretrained(base_dir / "unet").float()
    return new_text_encoder(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id), new_unet()


def _scheduler() -> DDIMScheduler:
    """Stable Diffusion 1.5's."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


@torch.no_grad()
def _scaled_latents(vae: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """Posterior means times the VAE's scaling factor, (N, 4, 16, 16)."""
    latents = torch.cat([vae.encode(to_images(p)).latent_dist.mean for p in torch.split(pixels, 64)])
    return latents * vae.config.scaling_factor


def _save(base_dir: Path, vae: AutoencoderKL, average: torch.nn.ModuleDict, tokenizer: Any, scheduler: DDIMScheduler) -> None:
    """The whole pipeline in fp16, as diffusers keeps it."""
    parts = {name: copy.deepcopy(average[name]).half() for name in ("text_encoder", "unet")}
    StableDiffusionPipeline(
        vae=vae.half(),
        **parts,
        tokenizer=tokenizer,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(base_dir)
    _forget_paths(base_dir)


def _forget_paths(base_dir: Path) -> None:
    """Take the folder that a part was loaded from out of its saved configuration."""
    for path in base_dir.glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
