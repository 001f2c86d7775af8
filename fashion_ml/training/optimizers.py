"""Optimisers, each from the library that maintains it."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from fashion_ml.config import Optimizer
from fashion_ml.errors import InputError
from fashion_ml.models.lora import LoraParameters


def make_optimizer(settings: Optimizer, parameters: LoraParameters, device: torch.device) -> torch.optim.Optimizer:
    """The optimiser over one parameter group for each learning rate; the group's `peak` holds that rate.

    InputError when its library is missing, naming the extra to install, or when it needs a GPU and there is none.
    """
    rate = settings.learning_rate
    groups: list[dict[str, Any]] = [{"params": parameters.unet, "lr": rate, "peak": rate}]
    if parameters.text_encoder:
        text_rate = settings.text_encoder_lr or rate
        groups.append({"params": parameters.text_encoder, "lr": text_rate, "peak": text_rate})
    check_optimizer(settings, device)
    kind, decay = settings.optimizer_type, settings.weight_decay
    more: dict[str, Any] = {"betas": settings.betas} if settings.betas is not None else {}
    if kind == "adamw":
        # fused: one pass over the weights, on CPUs too
        return torch.optim.AdamW(groups, lr=rate, weight_decay=decay, fused=True, **more)
    if kind == "adafactor":
        from transformers.optimization import Adafactor

        return Adafactor(groups, lr=rate, weight_decay=decay, scale_parameter=False, relative_step=False)
    if kind == "prodigy":
        from prodigyopt import Prodigy

        return Prodigy(groups, lr=rate, weight_decay=decay, use_bias_correction=True, safeguard_warmup=True, **more)
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(groups, lr=rate, weight_decay=decay, **more)


def check_optimizer(settings: Optimizer, device: torch.device) -> None:
    """InputError when the library of the optimiser is missing, naming the extra to install, or it needs a GPU and there is none."""
    kind = settings.optimizer_type
    name = {"prodigy": "prodigyopt", "adamw8bit": "bitsandbytes"}.get(kind)
    try:
        if name:
            importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"optimizer.optimizer_type: {kind} needs {name}, which is not installed; pip install 'fashion-ml[gpu]', or use adamw"
        ) from error
    if kind == "adamw8bit" and device.type != "cuda":
        raise InputError("optimizer.optimizer_type: adamw8bit needs a CUDA GPU and there is none; use adamw")
