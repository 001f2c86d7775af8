"""Means of four as avg_pool2d makes them, and their gradients of first and second order."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool2d

from fashion_ml.models.halved import MeansOfFour, halved


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_and_gradient_are_those_of_avg_pool2d_bit_for_bit(dtype: torch.dtype):
    x, weights = torch.randn(2, 3, 6, 8, dtype=dtype), torch.randn(2, 3, 3, 4, dtype=dtype)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    made, wanted = MeansOfFour.apply(one), avg_pool2d(other, 2)
    (made * weights).sum().backward()
    (wanted * weights).sum().backward()
    assert torch.equal(made, wanted)
    assert one.grad is not None
    assert other.grad is not None
    assert torch.equal(one.grad, other.grad)


def test_gradients_of_gradients_are_right_by_finite_differences():
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(MeansOfFour.apply, x)
    assert torch.autograd.gradgradcheck(lambda of: MeansOfFour.apply(of).square(), x)


@pytest.mark.parametrize("shape", [(1, 2, 5, 8), (1, 2, 8, 5), (1, 2, 4, 4)])
def test_odd_sizes_leave_the_last_row_out_as_avg_pool2d_does(shape: tuple[int, ...]):
    x = torch.randn(shape)
    assert torch.equal(halved(x), avg_pool2d(x, 2))
