"""The GPU memory of a LoRA step, by `memory_estimate`: the same network, LoRA, precision and checkpointing as in the loop."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional

from fashion_ml.config import LoraExperiment, Optimizer
from fashion_ml.models.base_folder import empty_model
from fashion_ml.models.checkpointing import checkpoint_blocks
from fashion_ml.models.families.known import family_of
from fashion_ml.models.lora import add_lora
from fashion_ml.models.new_words import WithNewWords
from fashion_ml.models.stable_diffusion import quiet_libraries
from fashion_ml.models.text_encoding import Text, Tokens, in_precision
from fashion_ml.runtime.tensor_tree import mapped
from fashion_ml.training.lora_inputs import encoders_by
from fashion_ml.training.lora_models import fuse, lora_spec, without_autocast
from fashion_ml.training.memory_estimate import MemoryEstimate, checkpointed, peak_of_steps
from fashion_ml.training.optimizers import state_bytes
from fashion_ml.training.precision import DTYPES


def lora_memory(
    config: LoraExperiment, pipeline: Any, latents: Sequence[int], text: Text | Tokens, needed: Collection[str] = ()
) -> MemoryEstimate:
    """What a LoRA step needs for a batch of latents (B, 4, h, w) and captions as those of `text`, of which the shapes count: what the UNet
    reads or, if a text encoder trains, tokens. `needed` are the encoders that stay on the GPU (`needed_encoders`); the VAE encodes one image
    at a time."""
    training, dtype = config.training, DTYPES[config.training.mixed_precision]
    with quiet_libraries():
        unet = empty_model("unet", pipeline.unet.config, "model.base").to(dtype)
    family = family_of(pipeline)
    encoders = [
        empty_model(part.model, getattr(pipeline, part.model).config.to_dict(), "model.base").float() for part in family.texts
    ]
    word = _with_word(encoders[0], config.embedding.vectors) if config.embedding.token is not None else None
    add_lora(unet, encoders, lora_spec(config), 0, config.model.clip_skip)
    if word is not None:
        word.requires_grad_(True)
    models = [unet, *encoders] if config.text_trains else [unet]
    shapes = [tuple(one.shape) for model in models for one in model.parameters() if one.requires_grad]
    for model in models:
        fuse(model, training.compile)
    half = without_autocast(config, unet, "cuda", 1)
    mixed = dtype != torch.float32 and not half
    for model in models:
        model.train()
        if training.gradient_checkpointing:
            checkpoint_blocks(model, **checkpointed(mixed).keywords)

    def make(_: dict[int, Any]) -> Callable[[], None]:
        optimizer = torch.optim.AdamW([one for model in models for one in model.parameters() if one.requires_grad], fused=True)
        rows = latents[0] * (1 if config.loss.output_preservation_prompt is None else 2)
        x, steps = torch.empty((rows, *latents[1:])), torch.zeros(rows, dtype=torch.long)
        noisy = x.to(dtype) if half else x
        told = mapped(lambda one: torch.zeros((rows, *one.shape[1:]), dtype=one.dtype), text)
        told = in_precision(told, dtype) if half and not isinstance(told, Tokens) else told

        def step() -> None:
            with torch.autocast("cpu", dtype if mixed else torch.bfloat16, enabled=mixed):
                given = family.encode(encoders, told, config.model.clip_skip) if isinstance(told, Tokens) else told
                prediction = family.predict(unet, noisy, steps, given)
            functional.mse_loss(prediction.float(), x).backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    other = state_bytes(config.optimizer, shapes) - state_bytes(Optimizer(), shapes)
    stay = set(needed) - ({"text_encoder"} if config.text_trains else set())  # that one is counted in the step
    beside = sum(weight.numel() * weight.element_size() for one in encoders_by(pipeline, stay) for weight in one.parameters())
    found = peak_of_steps(models, make, autocast=mixed, beside=beside)
    found = replace(found, peak=found.peak + other, states=found.states + other)
    if "vae" in stay:  # what it needs for itself comes before the step's own, beside weights and states
        found = replace(found, peak=max(found.peak, found.weights + found.states + encoding_bytes(pipeline.vae, latents[2:])))
    return found


def _with_word(text_encoder: Any, vectors: int) -> torch.nn.Parameter:
    """Put a new word of so many vectors into a text encoder that does not train itself; they, which do not yet either."""
    text_encoder.requires_grad_(False)
    table = text_encoder.get_input_embeddings()
    own = WithNewWords(table, table.num_embeddings, torch.empty(vectors, table.embedding_dim), [])
    text_encoder.set_input_embeddings(own)
    return own.vectors


def encoding_bytes(vae: Any, cells: Sequence[int]) -> int:
    """Bytes that encoding one image of so many latent cells, height and width, takes at its peak, without the weights."""
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    return _bytes_of_vae(vae, "encode", (1, 3, cells[0] * factor, cells[1] * factor))


def decoding_bytes(vae: Any, images: int, cells: Sequence[int]) -> int:
    """Bytes that decoding so many images of so many latent cells, height and width, at once takes at its peak, without the weights."""
    return _bytes_of_vae(vae, "decode", (images, vae.config.latent_channels, *cells))


def _bytes_of_vae(vae: Any, does: str, shape: Sequence[int]) -> int:
    with quiet_libraries():
        model = empty_model("vae", vae.config, "model.base").float().eval().requires_grad_(False)

    def make(_: dict[int, Any]) -> Callable[[], None]:
        given = torch.empty(tuple(shape))

        def step() -> None:
            with torch.no_grad():
                getattr(model, does)(given)

        return step

    found = peak_of_steps([model], make, autocast=False)
    return found.peak - found.weights
