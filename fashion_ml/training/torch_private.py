"""What torch keeps to itself: tensors without numbers, operations as they are dispatched, the weights of a module by name, and which kernels
attention is computed by."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_BLOCK = 512
"""Bytes that CUDA's allocator rounds up to."""


def fake_tensors() -> AbstractContextManager[Any]:
    """Inside it tensors have a shape, a type and a device, and no numbers."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode()


class LiveBytes(TorchDispatchMode):
    """Inside it: the bytes of all storages that live, and the most there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it made."""
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            self.count(tensor)
        return made

    def count(self, tensor: Any) -> None:
        """A tensor, which counts until its storage is given up."""
        if not isinstance(tensor, torch.Tensor):
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        size = -(-storage.nbytes() // _BLOCK) * _BLOCK

        def gone(_: Any) -> None:
            self._seen.pop(key, None)
            self.live -= size

        self._seen[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)


def room_for_graphs(count: int) -> None:
    """Let dynamo keep so many more graphs of one function: behind its limit, 8, it would go on without compiling and not say so."""
    import torch._dynamo.config as dynamo

    names = ("recompile_limit", "accumulated_recompile_limit")
    if not hasattr(dynamo, names[0]):  # before torch 2.7
        names = ("cache_size_limit", "accumulated_cache_size_limit")
    for name in names:
        setattr(dynamo, name, getattr(dynamo, name) + count)


def sdpa_backend(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> str:
    """Which kernels torch takes on a device for scaled dot product attention of queries (B, H, L, D) and as many keys, with gradients:
    `flash_attention`, `efficient_attention`, `cudnn_attention` or `math`."""
    from torch.nn.attention import SDPBackend

    query = torch.empty(tuple(shape), dtype=dtype, device=device, requires_grad=True)
    return SDPBackend(torch._fused_sdp_choice(query, query, query)).name.lower()


def without_numbers(model: Any) -> dict[int, torch.nn.Parameter]:
    """Inside fake_tensors: let a model's weights and buffers, on the meta device or real ones, be of their shapes and precisions alone.

    Returns the new weight for the id of each old one.
    """
    new: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                fake = torch.empty(weight.shape, dtype=weight.dtype)
                new[id(weight)] = module._parameters[name] = torch.nn.Parameter(fake, requires_grad=weight.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
    return new
