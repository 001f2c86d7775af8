"""The GPU memory of a LoRA step, by `memory_estimate`: the same network, LoRA, precision and checkpointing as in the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from fashion_ml.config import LoraExperiment
from fashion_ml.models.base_folder import empty_model
from fashion_ml.models.fused_lora import use_fused_linears
from fashion_ml.models.lora import add_lora
from fashion_ml.models.stable_diffusion import quiet_libraries
from fashion_ml.models.text_encoding import Tokens, encode_tokens
from fashion_ml.training.lora_loop import lora_spec
from fashion_ml.training.memory_estimate import MemoryEstimate, checkpointed, peak_of_steps
from fashion_ml.training.precision import DTYPES


def lora_memory(config: LoraExperiment, pipeline: Any, latents: Sequence[int], text: Sequence[int]) -> MemoryEstimate:
    """What a LoRA step needs for a batch of these shapes: latents (B, 4, h, w), and embeddings (B, L, D) or, if the text encoder trains, token
    ids (B, n, 77). With AdamW's states, whatever the optimiser. VAE and text encoder count where they stay on the GPU."""
    training, network, dtype = config.training, config.network, DTYPES[config.training.mixed_precision]
    with quiet_libraries():
        unet = empty_model("unet", pipeline.unet.config, "model.base").to(dtype)
    text_encoder = empty_model("text_encoder", pipeline.text_encoder.config.to_dict(), "model.base").float()
    add_lora(unet, text_encoder, lora_spec(config), 0, config.model.clip_skip)
    models = [unet, text_encoder] if network.train_text_encoder else [unet]
    mixed = dtype != torch.float32
    for model in models:
        model.train()
        if training.gradient_checkpointing:
            _checkpoint(model, checkpointed(mixed))
        use_fused_linears(model)

    def make(_: dict[int, Any]) -> Callable[[], None]:
        optimizer = torch.optim.AdamW([one for model in models for one in model.parameters() if one.requires_grad], fused=True)
        x, steps = torch.empty(tuple(latents)), torch.zeros(latents[0], dtype=torch.long)
        tokens = Tokens(torch.zeros(tuple(text), dtype=torch.long)) if network.train_text_encoder else None
        hidden = None if tokens else torch.empty(tuple(text))

        def step() -> None:
            with torch.autocast("cpu", dtype if mixed else torch.bfloat16, enabled=mixed):
                given = encode_tokens(text_encoder, tokens, config.model.clip_skip) if tokens else hidden
                prediction = unet(x, steps, given).sample
            functional.mse_loss(prediction.float(), x).backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    stay = [] if config.data.cache_latents else [pipeline.vae]
    stay += [pipeline.text_encoder] if config.data.shuffle_caption and not network.train_text_encoder else []
    beside = sum(weight.numel() * weight.element_size() for model in stay for weight in model.parameters())
    return peak_of_steps(models, make, autocast=mixed, beside=beside)


def _checkpoint(model: Any, function: partial[Any]) -> None:
    if hasattr(model, "enable_gradient_checkpointing"):
        model.enable_gradient_checkpointing(function)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=function.keywords)
