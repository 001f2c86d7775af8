"""The small Stable Diffusion: a text encoder and a UNet over the small VAE's latents, trained together."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from fashion_ml.embedded.making.budget import Budget
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
    rate: float | None = None,
    minutes: float | None = None,
    longest_memory: float = 0.997,
    named: tuple[float, float] = (0.95, 0.93),
    precision: torch.dtype = torch.float32,
    device: str = "cpu",
) -> None:
    """Train text encoder and UNet on noise prediction (min-SNR 5, arXiv:2303.09556), keep the moving average, save in fp16.

    With `refine` the saved ones are trained on, at half the rate unless `rate` is another. `longest_memory` is the decay of the moving average,
    `named` how often captions say colour and pattern, `precision` that of activations. After `minutes` it ends in any case.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    tokenizer, text_encoder, unet = _parts(base_dir, refine=refine)
    vae = AutoencoderKL.from_pretrained(base_dir / "vae", torch_dtype=torch.float32).to(device)
    garments, pixels = rendered(pictures, TRAIN_SEED, cache_dir)
    latents, scheduler = _scaled_latents(vae, pixels), _scheduler()

    trained = torch.nn.ModuleDict({"text_encoder": text_encoder, "unet": unet}).to(device).train()
    average, rate = copy.deepcopy(trained).eval().requires_grad_(False), rate or (6e-4 if refine else 1.2e-3)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    predict, weights = torch.compile(unet) if compiled else unet, _min_snr(scheduler).to(device)
    budget, running = Budget(steps, minutes), 0.0
    while budget.share < 1:
        budget.begin_step(optimizer, rate)
        rows = rng.integers(0, len(latents), batch_size)
        captions = [noisy_caption(garments[row], rng, named) for row in rows]
        tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids.to(device)
        noise = torch.randn(batch_size, *latents.shape[1:]).to(device)
        timesteps = torch.randint(0, 1000, (batch_size,)).to(device)

        noisy = scheduler.add_noise(latents[rows], noise, timesteps)
        with torch.autocast(torch.device(device).type, precision, enabled=precision != torch.float32):
            output = predict(noisy, timesteps, text_encoder(tokens).last_hidden_state).sample
        error = (output.float() - noise).square().mean((1, 2, 3))
        loss = (error * weights[timesteps]).mean()

        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        budget.follow(average, trained, longest_memory)
        running = 0.98 * running + 0.02 * error.mean().item()
        if budget.step % 50 == 0 or budget.share == 1:
            log.info("stable_diffusion %s mse %.4f", budget, running / (1 - 0.98**budget.step))
        if budget.step % 500 == 0:
            _save(base_dir, vae, average, tokenizer, scheduler)
    _save(base_dir, vae, average, tokenizer, scheduler)


def _parts(base_dir: Path, *, refine: bool) -> tuple[CLIPTokenizer, CLIPTextModel, UNet2DConditionModel]:
    """Tokenizer, text encoder and UNet to train: new, or with `refine` the saved ones: a tokenizer learnt anew may number words otherwise."""
    if refine:
        text_encoder = CLIPTextModel.from_pretrained(base_dir / "text_encoder").float()
        unet = UNet2DConditionModel.from_pretrained(base_dir / "unet").float()
        return CLIPTokenizer.from_pretrained(base_dir / "tokenizer"), text_encoder, unet
    tokenizer = save_tokenizer(base_dir / "tokenizer")
    return tokenizer, new_text_encoder(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id), new_unet()


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


def _min_snr(scheduler: DDIMScheduler) -> torch.Tensor:
    """The weight of each timestep's noise error, (1000,): min(SNR, 5) / SNR."""
    snr = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)
    return torch.clamp(snr, max=5) / snr


@torch.no_grad()
def _scaled_latents(vae: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """Posterior means times the VAE's scaling factor, (N, 4, 16, 16), where the VAE is."""
    latents = torch.cat([vae.encode(to_images(p).to(vae.device)).latent_dist.mean for p in torch.split(pixels, 64)])
    return latents * vae.config.scaling_factor


def _save(base_dir: Path, vae: AutoencoderKL, average: torch.nn.ModuleDict, tokenizer: Any, scheduler: DDIMScheduler) -> None:
    """The whole pipeline in fp16, as diffusers keeps it."""
    parts = {name: copy.deepcopy(average[name]).half().cpu() for name in ("text_encoder", "unet")}
    StableDiffusionPipeline(
        vae=copy.deepcopy(vae).cpu().half(),
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
