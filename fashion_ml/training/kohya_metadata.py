"""The metadata that WebUIs and kohya's tools read from a LoRA file: `ss_*` as kohya's trainer writes them, and `modelspec.*`."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

from fashion_ml.config import LoraExperiment, Optimizer
from fashion_ml.data.encoded_images import EncodedImages
from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.lora_batches import StepInputs
from fashion_ml.models.file_metadata import base_metadata
from fashion_ml.models.lora import LoraSpec
from fashion_ml.models.text_encoding import CHUNK
from fashion_ml.runtime.printable import printable
from fashion_ml.training.lora_models import optimizer_settings
from fashion_ml.training.optimizers import class_of
from fashion_ml.training.validation import Validation


def tag_frequency(items: Sequence[CaptionedImage]) -> dict[str, dict[str, int]]:
    """How often each comma-separated part of the captions occurs, by folder."""
    counts: dict[str, Counter[str]] = {}
    for item in items:
        folder = counts.setdefault(printable(item.path.parent.name), Counter())
        folder.update(tag.strip() for tag in item.caption.split(",") if tag.strip())
    return {folder: dict(counter) for folder, counter in counts.items()}


def dataset_dirs(items: Sequence[CaptionedImage]) -> dict[str, dict[str, int]]:
    """Repeats and number of images of each folder."""
    folders: dict[str, dict[str, int]] = {}
    for item in items:
        entry = folders.setdefault(printable(item.path.parent.name), {"n_repeats": item.repeats, "img_count": 0})
        entry["img_count"] += 1
    return folders


def bucket_info(images: EncodedImages) -> dict[str, Any]:
    """Size and number of images (repeats included) of each bucket, and the mean absolute error of the aspect ratio."""
    counts = Counter[tuple[int, int]]()
    for item, size in zip(images.items, images.sizes, strict=True):
        counts[size] += item.repeats
    errors = [
        abs(size[0] / size[1] - item.size[0] / item.size[1])
        for item, size in zip(images.items, images.sizes, strict=True)
        if item.size[1]
    ]
    buckets = {str(i): {"resolution": list(size), "count": counts[size]} for i, size in enumerate(sorted(counts))}
    return {"buckets": buckets, "mean_img_ar_error": math.fsum(errors) / max(len(errors), 1)}


@lru_cache(maxsize=1)
def checkpoint_hashes(path: Path) -> dict[str, str]:
    """Kohya's hashes of a single-file base: `ss_sd_model_hash` (8 digits over 64 KiB at 1 MiB) and `ss_new_sd_model_hash` (SHA-256)."""
    with path.open("rb") as file:
        file.seek(0x100000)
        legacy = hashlib.sha256(file.read(0x10000)).hexdigest()[:8]
        file.seek(0)
        whole = hashlib.sha256()
        while part := file.read(1 << 24):
            whole.update(part)
    return {"ss_sd_model_hash": legacy, "ss_new_sd_model_hash": whole.hexdigest()}


def kohya_metadata(
    config: LoraExperiment,
    spec: LoraSpec,
    inputs: StepInputs,
    pipeline: Any,
    validation: Validation | None,
    *,
    step: int,
    started: float,
) -> dict[str, str]:
    """Metadata of the LoRA after `step` optimiser steps, every value a string as the format demands.

    Of kohya's keys only `ss_sd_scripts_commit_hash` is left out, and the hashes of a base that is no single file.
    """
    base = Path(config.model.base).expanduser()
    values: dict[str, Any] = {
        **base_metadata(pipeline),
        "ss_sd_model_name": base.name,
        "ss_session_id": int(started * 1000) % 2**31,
        "ss_training_comment": config.output.training_comment or None,
        "ss_training_started_at": started,
        "ss_training_finished_at": time.time(),
        "ss_output_name": config.output.output_name,
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.implementation_version": "fashion-ml",
        "modelspec.title": config.output.output_name,
        "modelspec.resolution": f"{config.data.resolution}x{config.data.resolution}",
        "modelspec.date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "ss_zero_terminal_snr": bool(pipeline.scheduler.config.get("rescale_betas_zero_snr")),
        **_network(config, spec),
        **_steps(config, inputs, validation, step),
        **_data(config, inputs),
        **_NOT_HERE,
    }
    if config.network.use_dora:
        values["ss_network_module"] = "lycoris.kohya"
    if base.is_file():
        values |= checkpoint_hashes(base)
    return {key: str(value) for key, value in values.items()}


_NOT_HERE: dict[str, Any] = {
    "ss_full_fp16": False,
    "ss_fp8_base": False,
    "ss_fp8_base_unet": False,
    "ss_lowram": False,
    "ss_resize_interpolation": "lanczos",
    "ss_color_aug": False,
    "ss_random_crop": False,
    "ss_face_crop_aug_range": None,
    "ss_huber_scale": 1.0,
    "ss_noise_offset_random_strength": False,
    "ss_adaptive_noise_scale": None,
    "ss_ip_noise_gamma_random_strength": False,
    "ss_max_validation_steps": None,
}
"""What is the same for every file of this trainer: kohya's switches that it does not have."""


def _text_rate(optimizer: Optimizer) -> float | list[float]:
    """Of all text encoders, or of each, as sd-scripts was given it."""
    first = optimizer.text_encoder_lr or optimizer.learning_rate
    return first if optimizer.text_encoder_2_lr is None else [first, optimizer.text_encoder_2_lr]


def _network(config: LoraExperiment, spec: LoraSpec) -> dict[str, Any]:
    """Network, as the file's tensors have it, optimiser and loss."""
    network, optimizer, loss = config.network, config.optimizer, config.loss
    args, (rank, alpha) = _network_args(config, spec), spec.in_file(spec.rank, spec.alpha)
    many = spec.modules is not None
    return {
        "ss_network_module": "networks.lora" if network.algo == "lora" else "lycoris.kohya",
        "ss_network_dim": "Dynamic" if many else None if network.algo == "ia3" else rank,
        "ss_network_alpha": "Dynamic" if many else None if network.algo == "ia3" else alpha,
        "ss_network_dropout": network.dropout or None,
        "ss_scale_weight_norms": network.scale_weight_norms,
        "ss_network_args": json.dumps(args) if args else None,
        "ss_learning_rate": optimizer.learning_rate,
        "ss_unet_lr": optimizer.learning_rate,
        "ss_text_encoder_lr": _text_rate(optimizer) if network.train_text_encoder else None,
        "ss_optimizer": _optimizer(optimizer_settings(config)),
        "ss_lr_scheduler": optimizer.lr_scheduler,
        "ss_lr_warmup_steps": optimizer.lr_warmup_steps,
        "ss_max_grad_norm": optimizer.max_grad_norm,
        "ss_loss_type": loss.loss_type,
        "ss_huber_c": loss.huber_c,
        "ss_huber_schedule": loss.huber_schedule,
        "ss_min_snr_gamma": loss.min_snr_gamma,
        "ss_debiased_estimation": loss.debiased_estimation,
        "ss_noise_offset": loss.noise_offset or None,
        "ss_multires_noise_iterations": loss.multires_noise_iterations or None,
        "ss_multires_noise_discount": loss.multires_noise_discount if loss.multires_noise_iterations else None,
        "ss_ip_noise_gamma": loss.ip_noise_gamma or None,
        "ss_prior_loss_weight": loss.prior_loss_weight,
    }


def _optimizer(optimizer: Optimizer) -> str:
    """Its class and what it is made with, as kohya writes it."""
    own = class_of(optimizer.optimizer_type)
    betas = {} if optimizer.betas is None else {"betas": optimizer.betas}
    given = {"weight_decay": optimizer.weight_decay, **betas, **optimizer.optimizer_args}
    told = ",".join(f"{name}={value}" for name, value in given.items())
    return f"{own.__module__}.{own.__name__}({told})"


def _steps(config: LoraExperiment, inputs: StepInputs, validation: Validation | None, step: int) -> dict[str, Any]:
    """How long, and on how many images."""
    training, plan, prior = config.training, inputs.plan, inputs.prior
    prior_images = sum(item.repeats for item in prior.items) if prior else 0
    return {
        "ss_max_train_steps": training.max_train_steps,
        "ss_steps": step,
        "ss_epoch": plan.epoch(step) if step else 0,
        "ss_num_epochs": plan.epoch(training.max_train_steps),
        "ss_num_batches_per_epoch": plan.batches_per_epoch,
        "ss_num_train_images": plan.images_per_epoch,
        "ss_num_reg_images": prior_images,
        "ss_num_validation_images": len(validation.images.items) if validation else 0,
        "ss_batch_size_per_device": training.train_batch_size,
        "ss_total_batch_size": plan.batch_size * plan.accumulation,
        "ss_gradient_accumulation_steps": training.gradient_accumulation_steps,
        "ss_gradient_checkpointing": training.gradient_checkpointing,
        "ss_mixed_precision": training.mixed_precision,
        "ss_seed": training.seed,
        "ss_validate_every_n_steps": training.validate_every_n_steps,
        "ss_validate_every_n_epochs": None if training.validate_every_n_steps else 1,
    }


def _data(config: LoraExperiment, inputs: StepInputs) -> dict[str, Any]:
    """What the images are and how they are seen."""
    data, images, prior = config.data, inputs.images, inputs.prior
    return {
        "ss_resolution": f"({data.resolution}, {data.resolution})",
        "ss_enable_bucket": data.enable_bucket,
        "ss_bucket_no_upscale": data.bucket_no_upscale,
        "ss_min_bucket_reso": data.min_bucket_reso or data.resolution // 2,
        "ss_max_bucket_reso": data.max_bucket_reso or data.resolution * 2,
        "ss_bucket_info": json.dumps(bucket_info(images)) if data.enable_bucket else None,
        "ss_cache_latents": data.cache_latents,
        "ss_shuffle_caption": data.shuffle_caption,
        "ss_keep_tokens": data.keep_tokens,
        "ss_max_token_length": data.max_token_length if data.max_token_length != CHUNK else None,
        "ss_clip_skip": config.model.clip_skip,
        "ss_weighted_captions": data.weighted_captions,
        "ss_caption_dropout_rate": data.caption_dropout_rate,
        "ss_caption_dropout_every_n_epochs": data.caption_dropout_every_n_epochs,
        "ss_caption_tag_dropout_rate": data.caption_tag_dropout_rate,
        "ss_flip_aug": data.flip_aug,
        "ss_validation_split": data.validation_split,
        "ss_validation_seed": data.validation_seed,
        "ss_dataset_dirs": json.dumps(dataset_dirs(images.items)),
        "ss_reg_dataset_dirs": json.dumps(dataset_dirs(prior.items) if prior else {}),
        "ss_tag_frequency": json.dumps(tag_frequency(images.items)),
    }


_ALGOS = {"loha": "loha", "lokr": "lokr", "oft": "diag-oft", "ia3": "ia3"}
"""LyCORIS' names."""


def _network_args(config: LoraExperiment, spec: LoraSpec) -> dict[str, Any]:
    """What kohya's plain LoRA does not have, and convolutions and blocks in its words; LyCORIS' algo."""
    network = config.network
    found: dict[str, Any] = {"algo": _ALGOS[network.algo]} if network.algo in _ALGOS else {}
    if network.algo == "lokr":
        found["factor"] = network.lokr_factor
    if spec.modules is None and network.algo != "ia3":
        found |= _sizes_of_blocks(spec)
        if spec.convolutions:
            found |= dict(zip(("conv_dim", "conv_alpha"), spec.in_file(spec.rank_of(True), spec.alpha_of(True)), strict=True))
    found |= {name: value for name in ("rank_dropout", "module_dropout") if (value := getattr(network, name))}
    if config.optimizer.loraplus_lr_ratio is not None:
        found["loraplus_lr_ratio"] = config.optimizer.loraplus_lr_ratio
    if network.init != "default":
        found["init"] = network.init
    if network.use_dora:
        # the words of LyCORIS, whose files hold a magnitude for each output too
        found |= {"algo": "lora", "dora_wd": True, "wd_on_output": True}
    if network.use_rslora:
        found["use_rslora"] = True
    return found


def _sizes_of_blocks(spec: LoraSpec) -> dict[str, str]:
    """Ranks and alphas of the file by block of the UNet, where they are given by block or a block does not train."""
    found: dict[str, str] = {}
    rates = spec.block_lr or ()
    for prefix, ranks, alphas, convolution in (
        ("", spec.block_ranks, spec.block_alphas, False),
        ("conv_", spec.conv_block_ranks, spec.conv_block_alphas, True),
    ):
        if not (ranks or alphas or 0 in rates) or (convolution and not spec.convolutions):
            continue
        sizes = [spec.in_file(*spec.size_in_block(block, convolution)) for block in range(len(ranks or alphas or rates))]
        sizes = [(0, alpha) if rates and rates[block] == 0 else (rank, alpha) for block, (rank, alpha) in enumerate(sizes)]
        found[f"{prefix}block_dims"] = ",".join(str(rank) for rank, _ in sizes)
        found[f"{prefix}block_alphas"] = ",".join(f"{alpha:.9g}" for _, alpha in sizes)
    return found
