"""Optimisers, each from the library that maintains it."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Sequence
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


_SMALL, _BLOCK_8BIT = 4096, 256
"""bitsandbytes: numbers below which a tensor's states stay in 32 bits, and numbers that share a scale."""


def state_bytes(kind: str, shapes: Iterable[Sequence[int]]) -> int:
    """Bytes of an optimiser's states for float32 weights of these shapes, without its counters.

    AdamW: two means. AdamW8bit: the same in bytes with a float32 scale for each block, small tensors in float32 (bitsandbytes'
    `init_state`). Adafactor: a mean of squares for each row and each column, of vectors for each number (Shazeer and Stern
    2018, arXiv:1804.04235). Prodigy: two means, a sum and the first weights (Mishchenko and Defazio 2023, arXiv:2306.06101).
    """
    found = 0
    for shape in shapes:
        count = math.prod(shape)
        if kind == "adafactor":
            row_and_column = math.prod(shape[:-1]) + math.prod([*shape[:-2], *shape[-1:]])
            found += 4 * (row_and_column if len(shape) > 1 else count)
        elif kind == "adamw8bit" and count >= _SMALL:
            found += 2 * (count + 4 * -(-count // _BLOCK_8BIT))
        else:
            found += 4 * count * (4 if kind == "prodigy" else 2)
    return found
