"""The LoRA weights of all fused layers cast to half precision at once, where each layer would cast its own two, and their gradients back.

A UNet of Stable Diffusion 1.5 has 256 of them: 512 kernels a step that each last less than it takes to start one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch


class Lowered(torch.autograd.Function):
    """Weights -> the same in another precision, those of a group one below the other, and their gradients back in their own precision: each way
    a few kernels for all.

    `counts` says how many weights [r, in] are one group [sum of r, in]; `done` is called when the gradients are there.
    """

    @staticmethod
    def forward(
        ctx: Any, dtype: torch.dtype, counts: Sequence[int], done: Callable[[], None], *weights: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """The groups in `dtype`."""
        ctx.set_materialize_grads(False)
        ctx.done = done
        ctx.counts, ctx.rows, ctx.types = counts, [len(weight) for weight in weights], [weight.dtype for weight in weights]
        made, parts, rest = [], list[torch.Tensor](), iter(weights)
        for count in counts:
            group = [next(rest) for _ in range(count)]
            made.append(group[0].new_empty(sum(map(len, group)), *group[0].shape[1:], dtype=dtype))
            parts += made[-1].split([len(one) for one in group]) if count > 1 else made[-1:]
        torch._foreach_copy_(parts, list(weights))
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        """Gradients of the weights; None for those that nothing was computed with."""
        ctx.done()
        parts, rows = list[torch.Tensor | None](), iter(ctx.rows)
        for count, grad in zip(ctx.counts, grads, strict=True):
            sizes = [next(rows) for _ in range(count)]
            parts += [None] * count if grad is None else grad.split(sizes) if count > 1 else [grad]
        there = [(part, dtype) for part, dtype in zip(parts, ctx.types, strict=True) if part is not None]
        found = [torch.empty_like(part, dtype=dtype, memory_format=torch.contiguous_format) for part, dtype in there]
        if there:
            torch._foreach_copy_(found, [part for part, _ in there])
        rest = iter(found)
        return None, None, None, *(None if part is None else next(rest) for part in parts)


class Cast:
    """LoRA weights of layers that read the same as they were last cast; a copy of the layers begins without."""

    def __init__(self, layers: Sequence[Any], adapter: str) -> None:
        self._layers, self._adapter = list(layers), adapter
        self._low: tuple[torch.Tensor, ...] = ()
        for place, layer in enumerate(layers):
            layer._cast = (self, place)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_low": ()}

    @property
    def dtype(self) -> torch.dtype:
        """What the layers compute in."""
        return self._layers[0].base_layer.weight.dtype

    @property
    def is_there(self) -> bool:
        """Whether the layers still have their LoRA."""
        return self._adapter in self._layers[0].lora_A

    def weights(self) -> list[torch.Tensor]:
        """Each layer's lora_down, then each one's lora_up, in their own precision."""
        return [
            part[self._adapter].weight for name in ("lora_A", "lora_B") for part in (getattr(one, name) for one in self._layers)
        ]

    def keep(self, low: tuple[torch.Tensor, ...]) -> None:
        """Take over what the weights were cast to, lora_down of all and each lora_up; empty where that is over."""
        self._low = low

    def all(self) -> tuple[torch.Tensor, ...]:
        """lora_down of all layers, one below the other [sum of r, in], and each one's lora_up [out, r], in half precision; empty where they
        are not cast, or where that lets no gradient through that is wanted."""
        if not self._low:
            return ()
        wanted = torch.is_grad_enabled() and self._layers[0].lora_A[self._adapter].weight.requires_grad
        return self._low if self._low[0].requires_grad == wanted else ()

    def of(self, place: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Those of one layer; None where `all` has none."""
        low = self.all()
        if not low:
            return None
        if len(self._layers) == 1:
            return low[0], low[1]
        ups = low[1:]
        start = sum(up.shape[1] for up in ups[:place])
        return low[0][start : start + ups[place].shape[1]], ups[place]


def cast_together(model: torch.nn.Module, groups: Sequence[Sequence[Any]] = (), adapter: str = "default") -> bool:
    """Let a model whose linear layers are fused cast their LoRA weights at once whenever it is called; those of a group lie together.

    Nothing, and False, where all are of one precision. Not for a model that is compiled: there casts are part of the kernels that read what
    is cast.
    """
    for hook in model.__dict__.pop(_HOOKS, ()):  # of a LoRA that was here before
        hook.remove()
    grouped = {id(layer) for group in groups for layer in group}
    layers: list[Any] = [module for module in model.modules() if getattr(module, "_fused_adapter", None) == adapter]
    if all(layer.base_layer.weight.dtype == layer.lora_A[adapter].weight.dtype for layer in layers):
        return False
    casts = _Casts(
        [Cast(group, adapter) for group in (*groups, *([one] for one in layers if id(one) not in grouped))],
        [module for module in model.modules() if hasattr(module, "gradient_checkpointing")],
    )
    model.__dict__[_HOOKS] = (
        model.register_forward_pre_hook(casts.before),
        model.register_forward_hook(casts.after, always_call=True),
    )
    return True


_HOOKS = "_hooks_of_cast_loras"


class _Casts:
    """All of a model's, before and after each call of it."""

    def __init__(self, casts: list[Cast], blocks: list[Any]):
        self._casts, self._blocks, self._turn = casts, blocks, 0

    def before(self, model: Any, inputs: Any) -> None:
        """Cast the weights as they are now; nothing once the LoRA is gone."""
        if not self._casts[0].is_there:
            return
        self._turn += 1
        weights = [cast.weights() for cast in self._casts]
        counts = [count for one in weights for count in (len(one) // 2, *[1] * (len(one) // 2))]
        done = partial(self._done, self._turn)
        low = iter(Lowered.apply(self._casts[0].dtype, counts, done, *(weight for one in weights for weight in one)))
        for cast, own in zip(self._casts, weights, strict=True):
            cast.keep(tuple(next(low) for _ in range(1 + len(own) // 2)))

    def after(self, model: Any, inputs: Any, output: Any) -> None:
        """What computed keeps what its gradients need; parts that are computed again for them ask again."""
        if not (torch.is_grad_enabled() and any(block.gradient_checkpointing for block in self._blocks)):
            self._let_go()

    def _done(self, turn: int) -> None:
        if turn == self._turn:  # the last call's: earlier ones may be waiting for their gradients
            self._let_go()

    def _let_go(self) -> None:
        for cast in self._casts:
            cast.keep(())
