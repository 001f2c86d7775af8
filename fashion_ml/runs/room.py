"""Whether a step, and encoding an image, fit into this machine's memory, asked before they take it.

A CPU's training that does not fit is ended by the operating system, without a word, and with it perhaps what else runs there; a GPU refuses
by itself (`fits_into_memory`). What is needed is counted on tensors without numbers (`memory_estimate`), in a second or two, and only for
batches that are large enough to matter; it is refused where it is more than the machine has at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fashion_ml.runtime.language import tr
from fashion_ml.runtime.machine_memory import COUNTED_FROM, refuse_too_large

if TYPE_CHECKING:
    import torch

    from fashion_ml.config import LoraExperiment, StarganExperiment
    from fashion_ml.data.images import CaptionedImage
    from fashion_ml.data.stargan_batches import GanInputs

_WEIGHT, _TRAINS = 4, 16
"""Bytes of a weight in float32, or of its average; and of one that trains, with its gradient and AdamW's two moments."""


def check_lora_room(config: LoraExperiment, pipeline: Any, items: Sequence[CaptionedImage], device: torch.device) -> None:
    """InputError where the weights of a LoRA, the largest batch of its training, or encoding the largest image need more than a CPU's machine
    has."""
    from fashion_ml.data.buckets import image_sizes
    from fashion_ml.data.folder_listing import count_of
    from fashion_ml.models.families.family import Sizes
    from fashion_ml.models.families.known import family_of
    from fashion_ml.models.stable_diffusion import vae_factor
    from fashion_ml.training.lora_inputs import needed_encoders, text_of_one
    from fashion_ml.training.lora_memory import encoding_bytes, lora_memory

    if device.type != "cpu":
        return
    _check_lora_weights(config, pipeline)
    factor = vae_factor(pipeline)
    sizes = image_sizes([item.size for item in items], **config.data.bucketing(factor))
    there = Counter[tuple[int, int]]()
    for item, size in zip(items, sizes, strict=True):
        there[size] += item.repeats
    most = config.training.train_batch_size
    cells = {size: min(count, most) * (size[0] // factor) * (size[1] // factor) for size, count in there.items()}
    largest = max(cells, key=lambda size: cells[size])
    if cells[largest] < COUNTED_FROM:
        return
    side = max(sizes, key=lambda size: size[0] * size[1])
    refuse_too_large(
        "data.resolution",
        tr("encoding an image of {width} x {height} pixels", width=side[0], height=side[1]),
        encoding_bytes(pipeline.vae, (side[1] // factor, side[0] // factor)),
        tr("use less"),
    )
    text, needed = text_of_one(config, pipeline), needed_encoders(config, items)
    text = family_of(pipeline).with_sizes(text, [Sizes(items[0].size, largest, False)])
    latent = (pipeline.vae.config.latent_channels, largest[1] // factor, largest[0] // factor)
    for field, rows in (("data.resolution", 1), ("training.train_batch_size", min(there[largest], most))):
        if rows * latent[1] * latent[2] >= COUNTED_FROM:
            refuse_too_large(
                field,
                tr(
                    "a step with {images} of {width} x {height} pixels",
                    images=count_of(rows),
                    width=largest[0],
                    height=largest[1],
                ),
                lora_memory(config, pipeline, (rows, *latent), text, needed).peak,
                tr("use less, or training.gradient_checkpointing"),
            )


def check_stargan_room(config: StarganExperiment, inputs: GanInputs, device: torch.device) -> None:
    """InputError where the networks of a StarGAN, which are made in this machine's memory whatever they train on, or a CPU's step needs more
    than it has."""
    from fashion_ml.models.stargan import weight_counts
    from fashion_ml.training.stargan_loop import network_sizes, stargan_memory

    counts = weight_counts(network_sizes(config, len(inputs.latents.domains)))
    count, here = sum(counts.values()), device.type == "cpu"
    refuse_too_large(
        "network.mapping_hidden_dim" if counts["mapping"] > count / 2 else "network.base_dim",
        _training_of(count),
        _TRAINS * count + _WEIGHT * (count - counts["discriminator"]) if here else _WEIGHT * count,
        tr("use less"),
    )
    rows, (channels, height, width) = config.training.batch_size, inputs.latents.shape
    if here and rows * height * width >= COUNTED_FROM:
        refuse_too_large(
            "training.batch_size",
            tr("a step with {rows} latents {by}", rows=rows, by=f"{channels} x {height} x {width}"),
            stargan_memory(config, inputs).peak,
            tr("use less"),
        )


def _check_lora_weights(config: LoraExperiment, pipeline: Any) -> None:
    from fashion_ml.models.families.known import family_of
    from fashion_ml.models.lora import weight_count
    from fashion_ml.training.lora_models import lora_spec

    count = weight_count(pipeline.unet, family_of(pipeline).encoders(pipeline), lora_spec(config))
    refuse_too_large("network.rank", _training_of(count), _TRAINS * count, tr("use less"))


def _training_of(count: int) -> str:
    return tr("training {count:.2f} billion weights", count=count / 1e9)


def check_encoding_room(vae: Any, size: int) -> None:
    """InputError where encoding an image of this side in pixels needs more than a CPU's machine has."""
    from fashion_ml.models.vae import vae_factor_of
    from fashion_ml.training.lora_memory import encoding_bytes

    cells = size // vae_factor_of(vae)
    if next(vae.parameters()).device.type == "cpu" and cells**2 >= COUNTED_FROM:
        what = tr("encoding an image of {width} x {height} pixels", width=size, height=size)
        refuse_too_large("--size", what, encoding_bytes(vae, (cells, cells)), tr("use less"))
