"""How much GPU memory a training step needs, without a GPU: it is run on tensors that have a size and no numbers, and what lives is counted.

Counted are weights, gradients, the optimiser's states, what the forward pass keeps for the backward pass, and what each operation makes, in
the precisions of the experiment, rounded up to the allocator's 512 bytes. Not counted are the CUDA context and what the allocator holds
back (0.5 GiB and more by `nvidia-smi`), and encoding, sample images and evaluations, which take turns with training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from fashion_ml.training.torch_private import LiveBytes, fake_tensors, without_numbers

_LIBRARIES = 40 << 20
"""Bytes of the workspaces that cuBLAS keeps on recent cards (32 MiB and 8 MiB for cuBLASLt)."""
GIB = 1 << 30


class _Attention(torch.autograd.Function):
    """What the kernels of CUDA keep and make: the output and a number for each row, never the matrix of all pairs."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """(B, H, L, D) each -> (B, H, L, D)."""
        out = query.new_empty(query.shape)
        rows = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, rows)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Gradients of the three; that of the query is summed up in float32."""
        query, key, value, _, rows = ctx.saved_tensors
        torch.empty_like(rows)
        summed = torch.empty_like(query, dtype=torch.float32)
        found = tuple(torch.empty_like(one) for one in (query, key, value))
        del summed
        return found


_IN_FLOAT32 = (
    functional.group_norm,
    torch.group_norm,
    functional.layer_norm,
    torch.layer_norm,
    functional.softmax,
    torch.softmax,
)
_SUMMED_IN_FLOAT32 = (functional.mse_loss, functional.smooth_l1_loss, torch.pow, torch.Tensor.pow)


class AsOnCuda(TorchFunctionMode):
    """Attention as the kernels of CUDA do it, and under autocast the operations in float32 that CUDA has there and CPUs have not."""

    def __init__(self, autocast: bool) -> None:
        super().__init__()
        self._autocast = autocast

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, or what stands for it."""
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            query, key, value = args[:3] if len(args) >= 3 else (kwargs[name] for name in ("query", "key", "value"))
            if self._autocast:
                query, key, value = (one.to(torch.get_autocast_dtype("cpu")) for one in (query, key, value))
            return _Attention.apply(query, key, value)
        if self._autocast and func in (*_IN_FLOAT32, *_SUMMED_IN_FLOAT32):
            args = tuple(_float(one) for one in args)
            kwargs = {name: _float(one) for name, one in kwargs.items()}
        return func(*args, **kwargs)


def checkpointed(autocast: bool) -> partial[Any]:
    """Torch's gradient checkpointing, which computes again as the forward pass computed: the backward pass is outside of AsOnCuda."""
    return partial(checkpoint, use_reentrant=False, context_fn=lambda: (nullcontext(), AsOnCuda(autocast)))


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on the GPU."""

    peak: int
    weights: int
    """Of the models that the step needs there, with the LoRA."""
    states: int
    """The optimiser's."""

    def to_dict(self) -> dict[str, float]:
        """For `--json`, in GiB."""
        return {f"{name}_gib": round(getattr(self, name) / GIB, 3) for name in ("peak", "weights", "states")}


def peak_of_steps(
    models: Sequence[Any], make: Callable[[dict[int, Any]], Callable[[], None]], *, autocast: bool, beside: int = 0
) -> MemoryEstimate:
    """The most bytes that live in two steps: the second has the optimiser's states beside what the forward pass keeps.

    The numbers of `models` are given up; `make` gets the new weights by the id of the old ones, makes optimisers and returns what takes one
    step. `autocast` says whether the step computes in mixed precision. `beside` are bytes that lie there anyway.
    """
    memory = LiveBytes()
    # a CPU's fake tensors: the backward pass on fake CUDA ones asks for a GPU
    with fake_tensors():
        new: dict[int, Any] = {}
        for model in models:
            new |= without_numbers(model)
            for tensor in (*model.parameters(), *model.buffers()):
                memory.count(tensor)
        weights = memory.live
        with memory, AsOnCuda(autocast):
            step = make(new)
            before = memory.live
            step()
            step()
        return MemoryEstimate(memory.peak + beside + _LIBRARIES, weights + beside, memory.live - before)
