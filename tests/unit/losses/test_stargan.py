"""Each loss against a number worked out by hand, and against autograd."""

from __future__ import annotations

import pytest
import torch

from fashion_ml.losses.stargan import (
    adversarial_loss,
    discriminator_loss,
    diversity,
    hinge_fake,
    hinge_real,
    lambda_ds,
    r1_penalty,
    reconstruction,
    style_loss,
)


def test_hinge_by_hand():
    """real 2, 0, -1: relu(1 - 2) + relu(1) + relu(2) = 0 + 1 + 2 = 3, mean 1. fake -2, 0, 1: 0 + 1 + 2, mean 1."""
    assert hinge_real(torch.tensor([2.0, 0.0, -1.0])).item() == 1
    assert hinge_fake(torch.tensor([-2.0, 0.0, 1.0])).item() == 1


def test_logits_of_zero_give_two_the_value_without_skill():
    zero = torch.zeros(4)
    assert discriminator_loss(zero, zero, zero).item() == 2


def test_the_discriminator_loss_counts_the_real_once_and_each_fake_half():
    """real 0.5: 0.5. fake_ref 0: 1, fake_lat -0.5: 0.5. 0.5 * ((0.5 + 1) + (0.5 + 0.5)) = 1.25."""
    loss = discriminator_loss(torch.tensor([0.5]), torch.tensor([0.0]), torch.tensor([-0.5]))
    assert loss.item() == 1.25


def test_the_adversarial_loss_is_minus_both_means():
    assert adversarial_loss(torch.tensor([1.0, 3.0]), torch.tensor([-1.0, 0.0])).item() == -1.5


def test_r1_of_a_linear_critic_is_its_squared_weight():
    """D(x) = sum(3 x) over 2 x 2 x 2 numbers: each gradient is 3, its squared norm 8 * 9 = 72, whatever x."""
    x = torch.randn(5, 2, 2, 2, requires_grad=True)
    assert r1_penalty((3 * x).flatten(1).sum(1), x).item() == pytest.approx(72)


def test_r1_equals_jacobians_and_its_own_gradient_is_right():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)).double()
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    penalty = r1_penalty(net(x).squeeze(1), x)
    jacobians = [torch.autograd.functional.jacobian(lambda one: net(one[None]).squeeze(), row) for row in x.detach()]
    assert penalty.item() == pytest.approx(sum(float((j**2).sum()) for j in jacobians) / 3)
    weight = net[1].weight
    (gradient,) = torch.autograd.grad(penalty, weight)
    step = 1e-6
    with torch.no_grad():
        weight[2, 3] += step
    moved = r1_penalty(net(x).squeeze(1), x)
    assert gradient[2, 3].item() == pytest.approx((moved - penalty).item() / step, rel=1e-4)


def test_l1_terms_by_hand():
    a, b = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 1.0]])
    assert style_loss(a, b).item() == reconstruction(a, b).item() == diversity(a, b, None).item() == 2  # (1 + 3) / 2
    assert diversity(a, b, 1.5).item() == 1.5


def test_beyond_the_margin_diversity_has_no_gradient():
    a = torch.tensor([[5.0]], requires_grad=True)
    diversity(a, torch.zeros(1, 1), 1.5).backward()
    assert a.grad is not None
    assert a.grad.item() == 0


def test_lambda_ds_fades_linearly_from_w_ds_to_nothing():
    assert [lambda_ds(epoch, 2.0, 4) for epoch in (1, 2, 3, 4, 5, 6, 100)] == [2.0, 1.5, 1.0, 0.5, 0.0, 0.0, 0.0]
