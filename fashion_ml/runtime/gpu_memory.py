"""The GPU's memory between phases of a run, and what is said where a phase does not fit."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fashion_ml.errors import InputError


@contextmanager
def fits_into_memory(phase: str, setting: str, value: Any, fix: str) -> Iterator[None]:
    """InputError that names the phase, the setting with its value, and what to do, where the GPU's memory is full inside the block."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(f"{setting}: with {value} {phase} does not fit into the GPU's memory; {fix}") from error


def free_memory(accelerator: Any = None) -> None:
    """Give the GPU's memory back that nothing holds any more, behind a phase: an accelerator's models and optimisers are let go of first."""
    import torch

    if accelerator is not None:
        accelerator.free_memory()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
