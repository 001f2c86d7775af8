"""The words of the settings for number formats, and what a device can do of them."""

from __future__ import annotations

from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.runtime.console import warn
from fashion_ml.runtime.language import tr

DTYPES = {
    "no": torch.float32,
    "float": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
"""Of `training.mixed_precision` (`no`) and `output.save_precision` (`float`)."""


def has_bf16(device: torch.device | str) -> bool:
    """Whether a GPU computes bf16, and TF32, in hardware (compute capability 8.0 and later); CUDA emulates bf16 on others, slower than
    float32."""
    return torch.cuda.get_device_capability(device)[0] >= 8


def settled(precision: str, device: torch.device | str) -> str:
    """`no`, `fp16` or `bf16` for an evaluation's precision on a device: `auto` is bf16 on a GPU that has it, fp16 on others, `no` on a CPU.

    InputError when fp16 is asked for without a GPU.
    """
    on_gpu = torch.device(device).type == "cuda"
    if precision == "fp16" and not on_gpu:
        raise InputError(tr("evaluation.precision: fp16 needs a CUDA GPU and there is none; use auto, no or bf16"))
    if precision != "auto":
        return precision
    return ("bf16" if has_bf16(device) else "fp16") if on_gpu else "no"


def compiled(model: Any, mode: str) -> Any:
    """A module or function by torch.compile in a mode of training.compile, `default` or `max-autotune`; for every shape of its own, for sizes
    that may be anything make slower kernels. Its own CUDA graphs stay out: gradients are summed up across calls."""
    return torch.compile(model, mode="max-autotune-no-cudagraphs" if mode == "max-autotune" else None, dynamic=False)


def check_precision(mixed_precision: str, device: str, *, tf32: bool = False) -> None:
    """InputError when a precision needs a GPU and the device is `cpu`; bf16 on a GPU without it is said, and TF32 where there is none."""
    if tf32 and (device != "cuda" or not has_bf16(device)):
        warn(tr("training.tf32: true does nothing here, for there is no GPU that has it (compute capability 8.0 and later)"))
    if mixed_precision == "fp16" and device == "cpu":
        raise InputError(tr("training.mixed_precision: fp16 needs a CUDA GPU and there is none; use no or bf16"))
    if mixed_precision == "bf16" and device == "cuda" and not has_bf16(device):
        warn(tr("training.mixed_precision: this GPU has no bf16 in hardware and emulates it slowly; use fp16"))
