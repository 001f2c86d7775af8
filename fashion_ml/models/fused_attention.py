"""Attention whose projections have LoRA layers: those that read the same as one operation, and none of what a training does not ask for.

q, k, v = x W^T + s (x A^T) B^T each, as `fused_lora`, with the three A one below the other: one product for all x A^T, one for all gradients
of A, and the gradients of x summed where they are made. Attention itself is torch's, as in diffusers' AttnProcessor2_0.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MethodType
from typing import Any

import torch
from torch.nn import functional

from fashion_ml.models.cast_lora import cast_together
from fashion_ml.models.fused_lora import is_on, scaled


class LoraProjections(torch.autograd.Function):
    """x (..., in), scale s, weights [out, in] without biases, A of all [sum of r, in], each B [out, r] -> (..., out) for each weight."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, scale: float, weights: Sequence[torch.Tensor], down: torch.Tensor, *ups: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Every projection, in the precision of the weights."""
        flat = x.reshape(-1, x.shape[-1]).to(down.dtype)
        hidden = scaled(flat @ down.T, scale)
        found = []
        for weight, up, own in zip(weights, ups, _parts(hidden, ups), strict=True):
            found.append((flat @ weight.T).addmm_(own, up.T).view(*x.shape[:-1], len(weight)))
        ctx.save_for_backward(flat, hidden, down, *ups)
        ctx.scale, ctx.weights, ctx.x_type = scale, weights, x.dtype
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, A and each B."""
        flat, hidden, down, *ups = ctx.saved_tensors
        rows = [grad.reshape(-1, grad.shape[-1]) for grad in grads]
        inner = torch.empty_like(hidden)
        for d, up, own in zip(rows, ups, _parts(inner, ups), strict=True):
            torch.mm(d, up, out=own)
        scaled(inner, ctx.scale)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = inner @ down
            for d, weight in zip(rows, ctx.weights, strict=True):
                dx.addmm_(d, weight)
            dx = dx.view(*grads[0].shape[:-1], flat.shape[-1]).to(ctx.x_type)
        dups = [d.T @ own for d, own in zip(rows, _parts(hidden, ups), strict=True)]
        return dx, None, None, inner.T @ flat, *dups


def _parts(hidden: torch.Tensor, ups: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """(N, sum of r) -> (N, r) for each lora_up."""
    return hidden.split([up.shape[1] for up in ups], dim=1)


def use_fused_attention(model: torch.nn.Module) -> int:
    """Let the attention of a model whose linear layers are fused compute q, k and v, or k and v over a text, as one operation, and all LoRA
    weights be cast at once; returns how much attention does. Where it computes in float32 nothing changes.

    Not for a model that is compiled.
    """
    from diffusers.models.attention_processor import Attention

    groups: list[tuple[Any, list[Any]]] = []
    for module in model.modules():
        if isinstance(module, Attention) and _plain(module):
            readers = [module.to_k, module.to_v] if module.is_cross_attention else [module.to_q, module.to_k, module.to_v]
            fused = all(hasattr(one, "_fused_adapter") and one.base_layer.bias is None for one in readers)
            if fused and len({one.scaling[one._fused_adapter] for one in readers}) == 1:
                groups.append((module, readers))
    if not cast_together(model, [readers for _, readers in groups]):
        return 0
    for module, _ in groups:
        module.forward = MethodType(_forward, module)
    return len(groups)


def _plain(module: Any) -> bool:
    """Whether attention does no more than `_forward`."""
    extras = ("group_norm", "spatial_norm", "norm_q", "norm_k", "norm_cross", "add_k_proj", "added_kv_proj_dim", "to_add_out")
    idle = all(getattr(module, name, None) in (None, False) for name in extras)
    return idle and not module.residual_connection and module.rescale_output_factor == 1.0


def _forward(
    self: Any,
    hidden_states: torch.Tensor,
    encoder_hidden_states: torch.Tensor | None = None,
    attention_mask: Any = None,
    **others: Any,
) -> Any:
    from diffusers.models.attention_processor import AttnProcessor2_0

    readers = (self.to_k, self.to_v) if self.is_cross_attention else (self.to_q, self.to_k, self.to_v)
    text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
    cast = getattr(readers[0], "_cast", None)  # None where the LoRA was taken off again
    low = cast[0].all() if cast else ()
    usual = low and attention_mask is None and not others and type(self.processor) is AttnProcessor2_0
    usual = usual and hidden_states.dim() == 3 and self.is_cross_attention == (encoder_hidden_states is not None)
    if not usual or not all(is_on(one, text) for one in readers):
        return type(self).forward(self, hidden_states, encoder_hidden_states, attention_mask, **others)
    scale, weights = readers[0].scaling[readers[0]._fused_adapter], [one.base_layer.weight for one in readers]
    with torch.autocast(text.device.type, enabled=False):
        found = LoraProjections.apply(text, scale, weights, *low)
    q, k, v = found if len(found) == 3 else (self.to_q(hidden_states), *found)
    q, k, v = (one.unflatten(-1, (self.heads, -1)).transpose(1, 2) for one in (q, k, v))
    made = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return self.to_out[1](self.to_out[0](made))
