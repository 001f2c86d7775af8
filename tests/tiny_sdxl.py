"""A Stable Diffusion XL of random weights in diffusers' layout, with every part that the real one has and a few hundred thousand numbers."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from fashion_ml.models.single_file import clip_tokenizer

WIDTHS = (32, 48)
"""Of the text encoders."""
CELLS = 4
"""Pixels per latent cell."""
_tokenizer = cache(clip_tokenizer)


def tiny_sdxl(seed: int = 0, **scheduler: Any) -> StableDiffusionXLPipeline:
    """Three levels, of which two have attention; the tokenizers are CLIP's own. `scheduler` are settings beside SDXL's own."""
    return StableDiffusionXLPipeline(
        **copy.deepcopy(_models(seed)),
        tokenizer=_tokenizer("sd1"),
        tokenizer_2=_tokenizer("sd2"),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
            **scheduler,
        ),
        add_watermarker=False,
    )


@cache
def _models(seed: int) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {
            "vae": AutoencoderKL(
                block_out_channels=(8, 16, 16),
                down_block_types=("DownEncoderBlock2D",) * 3,
                up_block_types=("UpDecoderBlock2D",) * 3,
                layers_per_block=1,
                latent_channels=4,
                norm_num_groups=4,
                sample_size=64,
                scaling_factor=0.13025,
                force_upcast=True,
            ),
            "unet": UNet2DConditionModel(
                sample_size=64 // CELLS,
                block_out_channels=(16, 32, 32),
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 1, 2),
                layers_per_block=2,
                attention_head_dim=(1, 2, 4),
                norm_num_groups=8,
                cross_attention_dim=sum(WIDTHS),
                use_linear_projection=True,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=WIDTHS[1] + 6 * 8,
            ),
            "text_encoder": CLIPTextModel(_text(WIDTHS[0], "quick_gelu")),
            "text_encoder_2": CLIPTextModelWithProjection(_text(WIDTHS[1], "gelu")),
        }


def write_tiny_sdxl(folder: Path, seed: int = 0, variant: str | None = None, **scheduler: Any) -> Path:
    """The same as a folder, in half precision where `variant` is fp16."""
    pipeline = tiny_sdxl(seed, **scheduler)
    (pipeline.to(dtype=torch.float16) if variant == "fp16" else pipeline).save_pretrained(folder, variant=variant)
    return folder


def _text(width: int, activation: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=77,
        hidden_act=activation,
        bos_token_id=0,
        eos_token_id=2,  # as in SDXL's own configurations: the largest id is taken for the end
        pad_token_id=1,
    )
