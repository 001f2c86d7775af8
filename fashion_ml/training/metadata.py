"""The `ss_*` metadata that WebUIs and kohya's tools read from a LoRA file."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence

from fashion_ml.config import LoraExperiment
from fashion_ml.data.captioned_images import CaptionedImage
from fashion_ml.data.order import StepPlan


def tag_frequency(items: Sequence[CaptionedImage]) -> dict[str, dict[str, int]]:
    """How often each comma-separated part of the captions occurs, by folder."""
    counts: dict[str, Counter[str]] = {}
    for item in items:
        folder = counts.setdefault(item.path.parent.name, Counter())
        folder.update(tag.strip() for tag in item.caption.split(",") if tag.strip())
    return {folder: dict(counter) for folder, counter in counts.items()}


def kohya_metadata(
    config: LoraExperiment, items: Sequence[CaptionedImage], plan: StepPlan, *, step: int, started: float, prediction_type: str
) -> dict[str, str]:
    """Metadata of the LoRA after `step` optimiser steps, every value a string as the format demands."""
    training, optimizer = config.training, config.optimizer
    folders: dict[str, dict[str, int]] = {}
    for item in items:
        entry = folders.setdefault(item.path.parent.name, {"n_repeats": item.repeats, "img_count": 0})
        entry["img_count"] += 1
    values = {
        "ss_base_model_version": "sd_v2" if prediction_type == "v_prediction" else "sd_v1",
        "ss_v2": str(prediction_type == "v_prediction"),
        "ss_sd_model_name": config.model.base,
        "ss_network_module": "networks.lora",
        "ss_network_dim": config.network.rank,
        "ss_network_alpha": config.network.alpha,
        "ss_learning_rate": optimizer.learning_rate,
        "ss_unet_lr": optimizer.learning_rate,
        "ss_text_encoder_lr": None,
        "ss_optimizer": f"torch.optim.adamw.AdamW(weight_decay={optimizer.weight_decay})",
        "ss_lr_scheduler": optimizer.lr_scheduler,
        "ss_lr_warmup_steps": optimizer.lr_warmup_steps,
        "ss_max_grad_norm": optimizer.max_grad_norm,
        "ss_max_train_steps": training.max_train_steps,
        "ss_steps": step,
        "ss_epoch": plan.epoch(step) if step else 0,
        "ss_num_epochs": plan.epoch(training.max_train_steps),
        "ss_num_batches_per_epoch": -(-plan.images_per_epoch // training.train_batch_size),
        "ss_num_train_images": plan.images_per_epoch,
        "ss_num_reg_images": 0,
        "ss_batch_size_per_device": training.train_batch_size,
        "ss_total_batch_size": plan.images_per_step,
        "ss_gradient_accumulation_steps": training.gradient_accumulation_steps,
        "ss_gradient_checkpointing": training.gradient_checkpointing,
        "ss_mixed_precision": training.mixed_precision,
        "ss_seed": training.seed,
        "ss_resolution": f"({config.data.resolution}, {config.data.resolution})",
        "ss_cache_latents": True,
        "ss_min_snr_gamma": config.loss.min_snr_gamma,
        "ss_output_name": config.output.output_name,
        "ss_dataset_dirs": json.dumps(folders),
        "ss_tag_frequency": json.dumps(tag_frequency(items)),
        "ss_training_started_at": started,
        "ss_training_finished_at": time.time(),
    }
    return {key: str(value) for key, value in values.items()}
