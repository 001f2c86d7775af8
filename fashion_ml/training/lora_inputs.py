"""From checked images to what the loop takes: encoders wrapped in caches, the steps' inputs, and the validation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from fashion_ml.config import LoraExperiment
from fashion_ml.data.buckets import image_sizes
from fashion_ml.data.captions import plain_caption
from fashion_ml.data.encoded_images import EncodedCaptions, EncodedImages
from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.lora_batches import BatchSettings, StepInputs
from fashion_ml.data.masks import EncodedMasks, Masks, find_masks
from fashion_ml.data.split import hold_out
from fashion_ml.data.tensor_cache import TensorCache
from fashion_ml.errors import InputError
from fashion_ml.models.families.known import family_of
from fashion_ml.models.stable_diffusion import vae_factor
from fashion_ml.models.text_encoding import Text, Tokens
from fashion_ml.runtime.gpu_memory import free_memory, is_on_gpu
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.processes import main_process_first
from fashion_ml.runtime.weights_hash import weights_sha256
from fashion_ml.training.first_lines import step_plan
from fashion_ml.training.subset_images import as_prompts, caption_settings, settings_of_each
from fashion_ml.training.validation import Validation

_BESIDE_FOLDER = 64 << 20
"""Bytes of encoded images, and of captions, in memory where a folder holds them all: reading a file again costs 50 us, far below a step."""
_MIXED_CAPTIONS = 1 << 30
_CAPTIONS_AHEAD = 1000
"""Different captions that a CPU encodes before the first step, a few seconds of work. Of more each is encoded when a step first asks for it:
20,000 would keep a training waiting for a minute. The numbers are the same, for a CPU encodes each on its own."""


def prepare_inputs(
    config: LoraExperiment,
    pipeline: Any,
    items: Sequence[CaptionedImage],
    prior_items: Sequence[CaptionedImage],
    accelerator: Any,
    *,
    masks: Masks | None = None,
    looks: TensorCache | None = None,
    ahead: bool = True,
) -> tuple[StepInputs, Validation | None]:
    """Split, encode what is to be cached, and return the inputs of every step and the validation, if images are held out.

    `masks` are those of the images, looked for here when they are not given; `looks` is what is known of near-duplicates. Encoders that are
    not needed any more leave the GPU. Not `ahead` each thing is encoded when a step asks for it, and again only where a training would do that
    too. InputError when nothing can be held out.
    """
    data, needed = config.data, needed_encoders(config, [*items, *prior_items])
    folder = Path(data.cache_dir).expanduser() if data.cache_dir else None
    kept, held = split_items(config, items, looks)
    latents = TensorCache(folder, _BESIDE_FOLDER if folder else None) if data.cache_latents else None
    vae_sha256 = weights_sha256(pipeline.vae)
    parts = ([items[i] for i in kept], prior_items, as_prompts([items[i] for i in held], data))
    bucketing = data.bucketing(vae_factor(pipeline))
    images, prior, validated = (
        EncodedImages(pipeline, part, image_sizes([item.size for item in part], **bucketing), latents, vae_sha256)
        if part
        else None
        for part in parts
    )
    assert images is not None
    found = masks or find_masks(data.masks, data.masks_dir, items, small_cache(config))
    of_images, of_held = (
        EncodedMasks(found, part.items, part.sizes, vae_factor(pipeline)) if found and part else None
        for part in (images, validated)
    )
    with main_process_first(accelerator):
        for encoded_masks in filter(None, (of_images, of_held)):
            encoded_masks.prepare()
        for name, encoded in ((tr("images"), images), (tr("prior images"), prior), (tr("held-out images"), validated)):
            if encoded is not None and ahead:
                mirrored = encoded is not validated and any(item.may_mirror(data.flip_aug) for item in encoded.items)
                encoded.prepare(tr("encode {name}", name=name), mirrored=mirrored)
        text_of, all_there = _text_of(config, pipeline, [item for part in parts for item in part], folder, needed, ahead=ahead)
    if ahead:
        _leave_gpu(pipeline, {"vae", "text_encoder"} - needed)
    inputs = StepInputs(
        batch_settings(config),
        images,
        prior,
        text_of,
        scaling=pipeline.vae.config.scaling_factor,
        timesteps=len(pipeline.scheduler.alphas_cumprod),
        process=accelerator.process_index,
        processes=accelerator.num_processes,
        masks=of_images,
        encodes=bool(needed) or not all_there,
    )
    device = accelerator.device
    return inputs, _validation(config, pipeline, validated, text_of, of_held, device) if validated else None


def _leave_gpu(pipeline: Any, encoders: Collection[str]) -> None:
    """Send encoders to the CPU, and give back what encoding several images at once took."""
    for one in encoders_by(pipeline, encoders):
        one.to("cpu")
    if is_on_gpu(pipeline.unet):
        free_memory()


def _validation(
    config: LoraExperiment,
    pipeline: Any,
    held: EncodedImages,
    text_of: Callable[[Sequence[str]], Text | Tokens],
    masks: EncodedMasks | None,
    device: torch.device,
) -> Validation:
    """The losses of the images that are held out."""
    scheduler = pipeline.scheduler
    return Validation(
        held,
        text_of,
        alphas_cumprod=scheduler.alphas_cumprod.to(device),
        prediction_type=scheduler.config.prediction_type,
        scaling=pipeline.vae.config.scaling_factor,
        seed=config.data.validation_seed,
        masks=masks,
    )


def small_cache(config: LoraExperiment) -> TensorCache:
    """For what is small and costs a look at each image: masks, and what near-duplicates are found by; in data.cache_dir if there is one."""
    folder = Path(config.data.cache_dir).expanduser() if config.data.cache_dir else None
    return TensorCache(folder, _BESIDE_FOLDER if folder else None)


def with_steps(
    config: LoraExperiment, pipeline: Any, items: Sequence[CaptionedImage], processes: int, looks: TensorCache | None = None
) -> LoraExperiment:
    """The experiment with the optimiser steps that training.max_train_epochs means for these images; the same where that is not given."""
    training = config.training
    if training.max_train_epochs is None:
        return config
    kept, _ = split_items(config, items, looks)
    plan = step_plan(config, [items[i] for i in kept], vae_factor(pipeline), processes)
    steps = training.max_train_epochs * plan.steps_per_epoch
    return config.model_copy(update={"training": training.model_copy(update={"max_train_steps": steps})})


def split_items(
    config: LoraExperiment, items: Sequence[CaptionedImage], looks: TensorCache | None
) -> tuple[Sequence[int], Sequence[int]]:
    """Which of the items are trained on, and which are held out; `looks` keeps what is known of them. InputError when nothing can be held
    out."""
    data = config.data
    try:
        return hold_out(items, data.validation_split, data.validation_seed, looks if looks is not None else small_cache(config))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            tr(
                "data.validation_split: {validation_split}, but {error}; set it to 0 or add images",
                validation_split=data.validation_split,
                error=error,
            )
        ) from None


def batch_settings(config: LoraExperiment) -> BatchSettings:
    """What decides the batches of an experiment, each setting by its name."""
    given = {**config.training.model_dump(), **config.data.model_dump(), **config.loss.model_dump()}
    given["captions"] = caption_settings(config.data)
    return BatchSettings(**{field.name: given[field.name] for field in fields(BatchSettings)})


def encoders_by(pipeline: Any, names: Collection[str]) -> list[Any]:
    """Of a pipeline the models that `needed_encoders` names; `text_encoder` are all of them."""
    texts = family_of(pipeline).encoders(pipeline)
    return [model for name in names for model in (texts if name == "text_encoder" else (getattr(pipeline, name),))]


def needed_encoders(config: LoraExperiment, items: Sequence[CaptionedImage]) -> frozenset[str]:
    """Which of `vae` and `text_encoder` every step needs, so that they stay on the GPU: one that trains, one whose results are not kept.

    `items` are the images and prior images. Captions that are drawn anew each time are too many to keep, and seldom come again.
    """
    drawn = any(one.is_drawn for one in settings_of_each(items, config.data))
    by_name = {"vae": not config.data.cache_latents, "text_encoder": config.text_trains or drawn}
    return frozenset(name for name, wanted in by_name.items() if wanted)


def text_of_one(config: LoraExperiment, pipeline: Any) -> Text | Tokens:
    """An empty caption as a step gets it, which has the shape of any other."""
    family = family_of(pipeline)
    settings = family.reading(config.text_encoding())
    if config.text_trains:
        return family.tokenize(pipeline, [""], settings)
    return EncodedCaptions(pipeline, None, "", settings).embeddings([""])


def _text_of(
    config: LoraExperiment,
    pipeline: Any,
    items: Sequence[CaptionedImage],
    folder: Path | None,
    needed: Collection[str],
    *,
    ahead: bool,
) -> tuple[Callable[[Sequence[str]], Text | Tokens], bool]:
    """Tokens when a text encoder trains, else what the UNet reads, cached; and whether no step has to ask an encoder."""
    family = family_of(pipeline)
    settings = family.reading(config.text_encoding())
    if config.text_trains:
        return lambda wanted: family.tokenize(pipeline, wanted, settings), ahead
    sha256 = " ".join(weights_sha256(encoder) for encoder in family.encoders(pipeline))
    if "text_encoder" in needed:
        cache = TensorCache(None, _MIXED_CAPTIONS) if ahead else None
        return EncodedCaptions(pipeline, cache, sha256, settings).embeddings, ahead
    kept = EncodedCaptions(pipeline, TensorCache(folder, _BESIDE_FOLDER if folder else None), sha256, settings)
    if not ahead:
        return kept.embeddings, False
    seen_as = settings_of_each(items, config.data)
    captions = {plain_caption(item.caption, one) for item, one in zip(items, seen_as, strict=True)}
    captions |= {""} if any(one.may_be_empty for one in seen_as) else set()
    captions |= {one for one in (config.loss.output_preservation_prompt,) if one is not None}
    if len(captions) > _CAPTIONS_AHEAD and family.encoders(pipeline)[0].device.type == "cpu":
        cache = TensorCache(folder, _BESIDE_FOLDER if folder else _MIXED_CAPTIONS)
        return EncodedCaptions(pipeline, cache, sha256, settings).embeddings, False
    kept.prepare(sorted(captions))
    return kept.embeddings, True
