"""A LoRA linear layer as one operation: the same numbers as peft's layer in two thirds of its passes over memory.

y = x W^T + b + s (x A^T) B^T, with A = lora_down [r, in], B = lora_up [out, r], s = alpha / r. Hu et al. 2021, arXiv:2106.09685. The frozen
W and b get no gradient: dx = dy W + s (dy B) A, dA = s (dy B)^T x, dB = s dy^T (x A^T).

Small layers on CPUs are one product with W + s B A instead: a few more multiplications, in fewer and larger pieces.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch.nn import functional

from fashion_ml.models.lora_dropout import is_dropped

MOST_MERGED = 1 << 24
"""Multiplications of a layer's own product (rows x in x out), above which those that merging adds cost more than the calls that it saves."""


class LoraLinear(torch.autograd.Function):
    """x (..., in), weight [out, in], bias [out] or None, down [r, in], up [out, r], scale -> (..., out), in the precision of `weight`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """The layer's output."""
        flat = x.reshape(-1, x.shape[-1]).to(weight.dtype)
        a, b = down.to(weight.dtype), up.to(weight.dtype)
        hidden = scaled(flat @ a.T, scale)
        y = flat @ weight.T if bias is None else torch.addmm(bias, flat, weight.T)
        y.addmm_(hidden, b.T)
        ctx.save_for_backward(flat, hidden, weight, a, b)
        ctx.scale, ctx.x_type, ctx.lora_type = scale, x.dtype, down.dtype
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, down and up."""
        flat, hidden, weight, a, b = ctx.saved_tensors
        (dy,) = grads
        d = dy.reshape(-1, dy.shape[-1])
        inner = scaled(d @ b, ctx.scale)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = (d @ weight).addmm_(inner, a).view(*dy.shape[:-1], flat.shape[-1]).to(ctx.x_type)
        da = (inner.T @ flat).to(ctx.lora_type) if ctx.needs_input_grad[3] else None
        db = (d.T @ hidden).to(ctx.lora_type) if ctx.needs_input_grad[4] else None
        return dx, None, None, da, db, None


def scaled(product: torch.Tensor, scale: float) -> torch.Tensor:
    """A small product, s times, in place: the output and both gradients take it from there."""
    return product if scale == 1.0 else product.mul_(scale)


def use_fused_linears(model: torch.nn.Module, adapter: str = "default") -> int:
    """Let every plain LoRA linear layer of peft in the model compute as one operation; returns how many do.

    Layers with dropout of any kind or DoRA keep peft's own way, and so does every layer while its adapter is switched off or merged.
    """
    from peft.tuners.lora.layer import Linear

    fused = 0
    module: Any
    for module in model.modules():
        plain = isinstance(module, Linear) and adapter in module.lora_A and not module.use_dora.get(adapter, False)
        if plain and not is_dropped(module) and isinstance(module.lora_dropout[adapter], torch.nn.Identity):
            module.forward = MethodType(_forward, module)
            module._fused_adapter = adapter
            fused += 1
    return fused


def all_fused(model: torch.nn.Module, adapter: str = "default") -> bool:
    """Whether every layer of the model that has a LoRA computes as one operation."""
    from peft.tuners.lora.layer import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer) and adapter in module.lora_A]
    return bool(layers) and all(getattr(layer, "_fused_adapter", None) == adapter for layer in layers)


def is_on(layer: Any, x: torch.Tensor) -> bool:
    """Whether a fused layer's LoRA is the one that counts, alone, and x comes in the precision of its base."""
    autocast = torch.is_autocast_enabled(x.device.type)
    same = layer.base_layer.weight.dtype == (torch.get_autocast_dtype(x.device.type) if autocast else x.dtype)
    return same and not (layer.disable_adapters or layer.merged) and layer.active_adapters == [layer._fused_adapter]


def _forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    if args or kwargs or not is_on(self, x):
        return type(self).forward(self, x, *args, **kwargs)
    adapter, base = self._fused_adapter, self.base_layer
    down, up, scale = self.lora_A[adapter].weight, self.lora_B[adapter].weight, self.scaling[adapter]
    plain = x.device.type == "cpu" and x.dtype == down.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if plain and x.numel() * base.out_features <= MOST_MERGED:
        return functional.linear(x, torch.addmm(base.weight, up, down, alpha=scale), base.bias)
    cast = getattr(self, "_cast", None)
    down, up = (cast and cast[0].of(cast[1])) or (down, up)
    with torch.autocast(x.device.type, enabled=False):
        return LoraLinear.apply(x, base.weight, base.bias, down, up, scale)
