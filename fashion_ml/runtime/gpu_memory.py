"""The GPU's memory between phases of a run, who is in it for a while, and what is said where a phase does not fit."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr


@contextmanager
def fits_into_memory(phase: str, setting: str, value: Any, fix: str) -> Iterator[None]:
    """InputError that names the phase, the setting with its value, and what to do, where memory, the GPU's or the
    machine's, is full inside the block."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        where = full_memory(error)
        if where is None:
            raise
        raise InputError(
            tr(
                "{setting}: with {value} {phase} does not fit into {where}; {fix}",
                setting=setting,
                value=value,
                phase=phase,
                where=where,
                fix=fix,
            )
        ) from error


_FULL_GPU = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""What a full GPU says where it is not PyTorch's allocator that asks: contexts, pinned memory, handles, graphs."""


def full_memory(error: BaseException) -> str | None:
    """Whose memory an allocation did not fit into; None for an error that is something else."""
    import torch

    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and any(one in text for one in _FULL_GPU)):
        return tr("the GPU's memory")
    no_room = "DefaultCPUAllocator" in text or "not enough memory: you tried to allocate" in text or "std::bad_alloc" in text
    return (
        tr("this machine's memory") if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and no_room) else None
    )


def free_memory(accelerator: Any = None) -> None:
    """Give the GPU's memory back that nothing holds any more, behind a phase: an accelerator's models and optimisers are let go of first."""
    import torch

    if accelerator is not None:
        accelerator.free_memory()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


_TURN = threading.RLock()
_VISITORS: WeakSet[Any] = WeakSet()
"""Models that came to compute and would go again."""


def is_on_gpu(model: Any) -> bool:
    """Whether a model's weights are in a GPU's memory."""
    return bool(next(model.parameters()).device.type == "cuda")


@contextmanager
def visiting(model: Any, device: str) -> Iterator[None]:
    """Inside the block the model is on the device; it stays there afterwards, until it leaves or others need the room. Nothing without a
    device. Threads take turns."""
    with _TURN:
        if device:
            model.to(device)
            _VISITORS.add(model)
        yield


def leave(model: Any) -> None:
    """Send a model to the CPU."""
    with _TURN:
        model.to("cpu")
        _VISITORS.discard(model)


@contextmanager
def without_visitors() -> Iterator[None]:
    """Inside the block no visiting model is on a GPU: those that are leave, and others wait."""
    with _TURN:
        for model in list(_VISITORS):
            leave(model)
        yield
