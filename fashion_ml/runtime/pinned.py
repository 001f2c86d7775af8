"""Numbers on their way to a GPU, without the host waiting for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on a device. To a GPU it goes by pinned memory, which the GPU reads when it is there; the allocator keeps it until then."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return pinned(tensor).to(device, non_blocking=True)
    return tensor.to(device)


def pinned(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers in pinned memory; an expanded tensor, one number in several places, is written out: PyTorch does not pin such a one."""
    return tensor.contiguous().pin_memory()
