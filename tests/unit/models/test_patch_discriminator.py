"""The patch discriminator and spectral norm: by hand, and against torch's own."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from fashion_ml.models.spectral_norm import with_spectral_norm
from fashion_ml.models.stargan import Networks, NetworkSizes, PatchDiscriminator, make_networks, patch_side
from fashion_ml.training.stargan_loop import stargan_memory

SIZES = NetworkSizes(style_dim=4, base_dim=16, n_res_blocks=1, mapping_hidden_dim=8, num_domains=3, discriminator="patch")


def made(**given: object) -> Networks:
    return make_networks(NetworkSizes(**{**vars(SIZES), **given}), seed=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(("d_layers", "side", "logits"), [(1, 3, 32), (2, 5, 16), (3, 9, 8), (4, 17, 8)])
def test_a_logit_sees_a_patch_of_the_size_worked_out_by_hand(d_layers: int, side: int, logits: int):
    """3 x 3, then strides of 2: 1 + 2 = 3; + 2 (of one latent) = 5; + 2 · 2 = 9; + 2 · 4 = 17. Looked at by the gradient of one logit."""
    d = made(d_layers=d_layers).d.double()
    x = torch.randn(1, 4, 32, 32, dtype=torch.float64, requires_grad=True)
    found = d(x, torch.tensor([1]))
    assert found.shape == (1, logits, logits)
    found[0, logits // 2, logits // 2].backward()
    assert x.grad is not None
    seen = x.grad[0].abs().sum(0)
    assert [int((seen.sum(axis) > 0).sum()) for axis in (0, 1)] == [side, side]
    assert patch_side(d_layers) == side


def test_its_layers_by_hand():
    """A quarter of base_dim, a half, the whole, and a logit for each domain; with biases, 4·9·4+4 + 4·9·8+8 + 8·9·16+16 + 16·3+3."""
    d = made().d
    assert [tuple(one.weight.shape) for one in d.modules() if isinstance(one, nn.Conv2d)] == [
        (4, 4, 3, 3),
        (8, 4, 3, 3),
        (16, 8, 3, 3),
        (3, 16, 1, 1),
    ]
    assert sum(one.numel() for one in d.parameters()) == 148 + 296 + 1168 + 51
    assert [tuple(one.shape) for one in made(base_dim=64, d_layers=5).d.parameters()][-4:-2] == [(64, 64, 3, 3), (64,)]


def test_each_row_has_the_logits_of_its_own_domain():
    d, x = made().d, torch.randn(3, 4, 8, 8)
    assert isinstance(d, PatchDiscriminator)
    by_row = d(x, torch.tensor([2, 0, 1]))
    for row, y in enumerate((2, 0, 1)):
        torch.testing.assert_close(by_row[row], d(x, torch.full((3,), y))[row])
    assert not torch.allclose(d(x, torch.tensor([0, 0, 0])), d(x, torch.tensor([1, 1, 1])))


@pytest.mark.parametrize("discriminator", ["stargan", "patch"])
def test_every_weight_of_the_discriminator_and_of_no_other_has_a_largest_singular_value_of_one(discriminator: str):
    n = made(discriminator=discriminator, spectral_norm=True)
    layers = [one for one in n.d.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    for _ in range(400):
        n.d(torch.zeros(1, 4, 8, 8), torch.tensor([0]))
    for layer in layers:
        assert torch.linalg.svdvals(layer.weight.detach().flatten(1))[0].item() == pytest.approx(1, abs=2e-3)
    plain = made(discriminator=discriminator)
    assert sum(p.numel() for p in n.d.parameters()) == sum(p.numel() for p in plain.d.parameters())
    for name, network in plain.named().items():
        if name != "discriminator":
            assert all(torch.equal(value, n.named()[name].state_dict()[key]) for key, value in network.state_dict().items())


def test_it_is_torchs_own_spectral_norm_pass_by_pass():
    """From the same weights and vectors, through training steps that change the weights, and in eval."""
    torch.manual_seed(0)
    ours = nn.Conv2d(3, 5, 3).double()
    theirs = copy.deepcopy(ours)
    with_spectral_norm(ours)
    nn.utils.parametrizations.spectral_norm(theirs)
    own, other = (layer.parametrizations["weight"] for layer in (ours, theirs))
    other[0]._u.copy_(own[0].u)
    other[0]._v.copy_(own[0].v)
    layers = (ours, theirs)
    optimizers = [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in layers]
    for step in range(8):
        if step == 6:
            for layer in layers:
                layer.eval()
        x = torch.randn(2, 3, 7, 7, dtype=torch.float64)
        found = [layer(x) for layer in layers]
        torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-12)
        for value, optimizer in zip(found, optimizers, strict=True):
            optimizer.zero_grad()
            value.square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(own.original, other.original, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(own[0].u, other[0]._u)


def test_it_computes_in_float32_under_autocast_and_keeps_what_a_backward_pass_needs():
    """Two forward passes before a backward one, as a step of D has them; and a second derivative, as the penalty needs it."""
    layer = nn.Linear(6, 4)
    with_spectral_norm(layer)
    x = torch.randn(3, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.weight.dtype == torch.float32
        loss = layer(x).float().sum() + layer(x).float().square().sum()
    loss.backward()
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert layer.parametrizations["weight"].original.grad.isfinite().all()


def test_a_step_with_both_is_estimated_without_numbers(tmp_path: Path):
    from tests.unit.training.test_stargan_loop import experiment, inputs_of

    for domain in "ab":
        (tmp_path / domain).mkdir()
        for index in range(4):
            torch.save(torch.randn(4, 8, 8), tmp_path / domain / f"{index}.pt")
    peaks = []
    for network in ({}, {"discriminator": "patch", "spectral_norm": True}):
        config = experiment(tmp_path, network=network, loss={"r1_interval": 1})
        peaks.append(stargan_memory(config, inputs_of(config, tmp_path)).peak)
    assert min(peaks) > 0
    assert peaks[0] != peaks[1]
