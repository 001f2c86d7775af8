"""Convolutions as matrix products give PyTorch's own numbers, and stay away from what they are not for."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from fashion_ml.models.matmul_conv import SmallConvolution, use_small_convolutions


@pytest.mark.parametrize(("batch", "size", "kernel"), [(1, (4, 4), 3), (3, (2, 5), 3), (2, (1, 1), 3), (2, (3, 4), 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_conv2d(batch: int, size: tuple[int, int], kernel: int, bias: bool):
    torch.manual_seed(0)
    x = torch.randn(batch, 5, *size, dtype=torch.float64, requires_grad=True)
    weight, b = torch.randn(7, 5, kernel, kernel, dtype=torch.float64), torch.randn(7, dtype=torch.float64) if bias else None
    ours, theirs = SmallConvolution.apply(x, weight, b), functional.conv2d(x, weight, b, padding=kernel // 2)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    dy = torch.randn_like(theirs)
    (mine,), (wanted,) = torch.autograd.grad(ours, x, dy), torch.autograd.grad(theirs, x, dy)
    torch.testing.assert_close(mine, wanted, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(lambda t: SmallConvolution.apply(t, weight, b), (x,))


def frozen(*arguments: int, **options: int) -> torch.nn.Conv2d:
    return torch.nn.Conv2d(*arguments, **options).requires_grad_(False)  # type: ignore[arg-type]


def test_only_frozen_convolutions_that_keep_the_size_are_taken():
    torch.manual_seed(0)
    taken = torch.nn.ModuleList([frozen(256, 256, kernel_size=3, padding=1), frozen(512, 512, kernel_size=1)])
    left = torch.nn.ModuleList(
        [
            torch.nn.Conv2d(256, 256, 3, padding=1),  # trained
            frozen(256, 256, kernel_size=3, padding=1, stride=2),
            frozen(256, 256, kernel_size=3),
            frozen(8, 8, kernel_size=3, padding=1),  # too small to matter
            frozen(512, 512, kernel_size=3, padding=1, groups=2),
        ]
    )
    assert use_small_convolutions(taken) == 2
    assert use_small_convolutions(left) == 0


def test_large_pictures_other_precisions_and_thawed_weights_go_pytorchs_way(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    layer, calls = frozen(256, 256, kernel_size=3, padding=1), list[torch.Size]()
    own = SmallConvolution.apply
    monkeypatch.setattr(SmallConvolution, "apply", lambda x, *rest: (calls.append(x.shape), own(x, *rest))[1])
    assert use_small_convolutions(layer) == 1
    x = torch.randn(1, 256, 8, 8)
    expected = functional.conv2d(x, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
    assert len(calls) == 1
    layer(torch.randn(1, 256, 16, 16))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    layer.to(torch.bfloat16)
    layer(x.bfloat16())
    layer.float().requires_grad_(True)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert len(calls) == 1
