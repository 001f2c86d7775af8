"""A plain LoRA that starts in the base's own weights: PiSSA (Meng et al. 2024, arXiv:2404.02948) and OLoRA (Büyükakyüz 2024, arXiv:2406.01775).

B0 A0 is the largest part of W by its singular values, or the first columns of its QR decomposition, by peft. Both methods take s B0 A0 out
of the base and train what is put back. Here the base stays as it is, and s B0 A0 x is taken off what a layer puts out: the same numbers, and a
model whose LoRA is switched off is its base. What a file holds is the difference, s (B A - B0 A0), a plain LoRA of rank 2 r.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from fashion_ml.models.lora_dropout import lora_layers

_KINDS = {"pissa": "pissa_niter_16", "olora": "olora"}
"""peft's names; PiSSA's with the fast decomposition that its authors use."""


@torch.no_grad()
def add_starts(model: Any, kind: str) -> list[torch.Tensor]:
    """Let every plain LoRA of a model start in its base's weight, and its output be the base's at first. Returns all A0 and B0, by layer, which
    whoever goes on from a state has to give back. Draws are of torch's global generator."""
    found = []
    for layer in lora_layers(model):
        down, up = _start(layer, kind)
        for kept, start, name in ((layer.lora_A, down, "start_down"), (layer.lora_B, up, "start_up")):
            weight = kept["default"].weight
            weight.copy_(start.view_as(weight))
            layer.register_buffer(name, weight.detach().clone(), persistent=False)
            found.append(getattr(layer, name))
        layer.register_forward_hook(_less_its_start)
    return found


def difference(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A [2 r, in, ...] and B [out, 2 r, ...] of what was learnt, B A - B0 A0; alpha / (2 r) has to be the layer's scale."""
    down, up = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
    return torch.cat([down, layer.start_down]), torch.cat([up, -layer.start_up], dim=1)


def _start(layer: Any, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A0 and B0 of peft for a linear layer of the same numbers."""
    from peft import LoraConfig, inject_adapter_in_model

    weight, rank = layer.get_base_layer().weight.detach().flatten(1).float(), layer.r["default"]
    if weight.is_meta:
        return weight.new_empty(rank, weight.shape[1]), weight.new_empty(weight.shape[0], rank)
    stand_in = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    stand_in.weight = torch.nn.Parameter(weight.clone())
    holder = torch.nn.Sequential(stand_in)
    alpha = layer.scaling["default"] * rank
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=["0"], init_lora_weights=_KINDS[kind]), holder)  # type: ignore[arg-type]
    made: Any = holder[0]
    return made.lora_A["default"].weight.detach(), made.lora_B["default"].weight.detach()


def _less_its_start(layer: Any, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
    if layer.disable_adapters:
        return None
    x, base = given[0], layer.get_base_layer()
    down, up = layer.start_down.to(x.dtype), layer.start_up.to(x.dtype)
    if isinstance(base, torch.nn.Conv2d):
        part = functional.conv2d(functional.conv2d(x, down, None, base.stride, base.padding, base.dilation), up)  # type: ignore[arg-type]
    else:
        part = functional.linear(functional.linear(x, down), up)
    return output - (part * layer.scaling["default"]).to(output.dtype)
