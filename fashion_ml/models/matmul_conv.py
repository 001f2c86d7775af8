"""Frozen convolutions over few pixels as one matrix product: the same numbers, without rearranging the weights for every call.

On CPUs oneDNN brings a convolution's weights into its own order each time, forward and backward. Where a picture of 4 x 4 or 8 x 8 meets 1280
channels, as deep in Stable Diffusion's UNet, that takes longer than the convolution itself. y = W cols(x) + b and dx = fold(W^T dy), with W
[out, in k k] as it lies in memory, cols the k x k neighbourhoods (im2col) and fold its adjoint.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch.nn import functional

MOST_PIXELS = 64
"""Pixels of all pictures of a batch together, above which oneDNN is as fast."""
_LEAST_WEIGHTS = 1 << 18


class SmallConvolution(torch.autograd.Function):
    """x [B, in, H, W], weight [out, in, k, k], k 1 or 3, bias [out] or None -> [B, out, H, W]; only x has a gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Stride 1, zeros around the picture so that it keeps its size."""
        ctx.save_for_backward(weight)
        out, _, k, _ = weight.shape
        batch, _, height, width = x.shape
        columns = functional.unfold(x, k, padding=k // 2) if k > 1 else x.flatten(2)
        flat, w = columns.transpose(0, 1).flatten(1), weight.view(out, -1)  # [in k k, B H W], [out, in k k]
        y = w @ flat if bias is None else torch.addmm(bias[:, None], w, flat)
        return y.view(out, batch, height, width).transpose(0, 1).contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        """Gradient of x."""
        (weight,) = ctx.saved_tensors
        (dy,) = grads
        out, channels, k, _ = weight.shape
        batch, _, height, width = dy.shape
        rows = dy.transpose(0, 1).reshape(out, -1).T @ weight.view(out, -1)  # [B H W, in k k]
        columns = rows.view(batch, height * width, -1).transpose(1, 2)
        if k == 1:
            return columns.reshape(batch, channels, height, width), None, None
        return functional.fold(columns, (height, width), k, padding=k // 2), None, None


def use_small_convolutions(model: torch.nn.Module) -> int:
    """Let the frozen convolutions of a model compute as one matrix product wherever that is faster; returns how many may."""
    count = 0
    module: Any
    for module in model.modules():
        if (
            isinstance(module, torch.nn.Conv2d)
            and module.kernel_size in ((1, 1), (3, 3))
            and module.padding == (module.kernel_size[0] // 2,) * 2
            and module.padding_mode == "zeros"
            and (module.stride, module.dilation, module.groups) == ((1, 1), (1, 1), 1)
            and module.weight.numel() >= _LEAST_WEIGHTS
            and not any(parameter.requires_grad for parameter in module.parameters())
        ):
            module.__dict__["forward"] = MethodType(_forward, module)
            count += 1
    return count


def _forward(self: Any, x: torch.Tensor) -> torch.Tensor:
    small = x.shape[0] * x.shape[2] * x.shape[3] <= MOST_PIXELS
    plain = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32 and self.weight.is_contiguous()
    if not (small and plain) or torch.is_autocast_enabled("cpu") or any(p.requires_grad for p in self.parameters()):
        return type(self).forward(self, x)  # type: ignore[no-any-return]
    return SmallConvolution.apply(x, self.weight, self.bias)  # type: ignore[no-any-return, no-untyped-call]
