"""The words of the settings for number formats."""

from __future__ import annotations

import torch

from fashion_ml.errors import InputError

DTYPES = {
    "no": torch.float32,
    "float": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
"""Of `training.mixed_precision` (`no`) and `output.save_precision` (`float`)."""


def check_precision(mixed_precision: str, device: str) -> None:
    """InputError when a precision needs a GPU and the device is `cpu`."""
    if mixed_precision == "fp16" and device == "cpu":
        raise InputError("training.mixed_precision: fp16 needs a CUDA GPU and there is none; use no or bf16")
