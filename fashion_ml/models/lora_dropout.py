"""Parts of a LoRA that training leaves out at random: ranks of a module, or whole modules; and norms that it is held to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_MARK = "loses_parts"


def add_dropout(model: Any, ranks: float, modules: float) -> None:
    """Leave out each rank of each image with a probability, and each module of a forward pass with another, while the model trains.

    The ranks that are left count 1 / (1 - probability); whole modules do not. As kohya's rank_dropout and module_dropout. Draws are of torch's
    global generator on the CPU. For layers that have a plain LoRA already.
    """
    for module in lora_layers(model):
        if ranks > 0 or modules > 0:
            setattr(module, _MARK, True)
        if ranks > 0:
            module.lora_A["default"].register_forward_hook(_DropRanks(ranks))
        if modules > 0:
            module.lora_B["default"].register_forward_hook(_DropModule(modules))


def is_dropped(layer: Any) -> bool:
    """Whether a layer's LoRA loses parts while it trains, so that it must go through its own modules."""
    return bool(getattr(layer, _MARK, False))


def lora_layers(model: Any) -> list[Any]:
    """The layers of a model that have a LoRA."""
    return [one for one in model.modules() if hasattr(one, "lora_A") and "default" in one.lora_A]


class _DropRanks:
    def __init__(self, probability: float):
        self._probability = probability

    def __call__(self, module: Any, _: Any, output: torch.Tensor) -> torch.Tensor | None:
        """`output` is (B, ..., r) of a linear layer, (B, r, h, w) of a convolution."""
        if not module.training:
            return None
        rank, place = (
            (output.shape[1], (-1, 1, 1)) if output.dim() == 4 else (output.shape[-1], (*[1] * (output.dim() - 2), -1))
        )
        kept = (torch.rand(len(output), rank) >= self._probability).to(output.device, output.dtype, non_blocking=True)
        return output * (kept.view(len(output), *place) / (1 - self._probability))


class _DropModule:
    def __init__(self, probability: float):
        self._probability = probability

    def __call__(self, module: Any, _: Any, output: torch.Tensor) -> torch.Tensor | None:
        if not module.training or torch.rand(()).item() >= self._probability:
            return None
        return output * 0


@torch.no_grad()
def scale_to_norm(layers: Sequence[Any], most: float) -> None:
    """Scale each layer's A and B down, alike, where the Frobenius norm of its scale * B A is above `most`; kohya's scale_weight_norms.

    The norm comes from the r x r products: |B A|^2 = tr(B'B A A'), so that the large matrix is never made.
    """
    for layer in layers:
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        down, up = a.flatten(1).double(), b.flatten(1).double()
        norm = ((up.T @ up) * (down @ down.T)).sum().clamp(min=0).sqrt() * abs(layer.scaling["default"])
        factor = torch.clamp(most / norm.clamp(min=torch.finfo(torch.float64).tiny), max=1.0).sqrt().to(a.dtype)
        a.mul_(factor)
        b.mul_(factor)
