"""The step that saves work against a plainly written one, in float64."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from fashion_ml.data.stargan_batches import GanBatch
from fashion_ml.models.stargan import Networks, NetworkSizes, make_networks
from fashion_ml.training.stargan_step import LossWeights, d_losses, frozen, g_losses, make_fakes
from tests.unit.training import plain_stargan as plain

SIZES = NetworkSizes(style_dim=8, base_dim=12, n_res_blocks=3, d_layers=2, mapping_hidden_dim=16, num_domains=3)
WEIGHTS = LossWeights(adv=0.9, sty=1.1, cyc=1.3, id=0.7, r1=2.0, r1_interval=4, ds_margin=None)


def networks(**given: object) -> Networks:
    made = make_networks(replace(SIZES, **given), seed=3)  # type: ignore[arg-type]
    for network in made.named().values():
        network.double()
    return made


def batch(seed: int = 0, count: int = 5) -> GanBatch:
    draw = torch.Generator().manual_seed(seed)
    x_src, x_ref = (torch.randn(count, 4, 8, 12, generator=draw, dtype=torch.float64) for _ in range(2))
    y_src, y_trg = (torch.randint(0, 3, (count,), generator=draw) for _ in range(2))
    z = [torch.randn(count, 16, generator=draw, dtype=torch.float64) for _ in range(3)]
    return GanBatch(x_src, y_src, x_ref, y_trg, *z)


def gradients(n: Networks) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": parameter.grad.clone()
        for name, network in n.named().items()
        for key, parameter in network.named_parameters()
        if parameter.grad is not None
    }


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).abs().max() < 1e-9, name


@pytest.mark.parametrize("with_r1", [True, False])
@pytest.mark.parametrize("lambda_ds", [0.8, 0.0])
@pytest.mark.parametrize("margin", [None, 0.001])
@pytest.mark.parametrize("discriminator", ["stargan", "patch"])
def test_every_gradient_of_a_whole_step_equals_that_of_the_plain_step(
    with_r1: bool, lambda_ds: float, margin: float | None, discriminator: str
):
    """D steps first, then G, E and F see the new D; both with SGD, so that one step's error would show in the next."""
    w = replace(WEIGHTS, ds_margin=margin, r1=2.0 if discriminator == "stargan" else 0.01)  # of summed patches it is large
    ours, theirs = networks(discriminator=discriminator), networks(discriminator=discriminator)
    b = batch()
    made = make_fakes(ours, b)
    loss, d_terms = d_losses(ours, b, made, w, with_r1=with_r1)
    loss.backward()
    expected, r1 = plain.d_loss(theirs, b, w, with_r1)
    expected.backward()
    assert d_terms["d_loss"].item() == pytest.approx(expected.item(), abs=1e-12)
    assert d_terms["r1"].item() == pytest.approx(r1.item(), abs=1e-12)
    assert (d_terms["r1"] > 0) == with_r1
    found = gradients(ours)
    assert all(name.startswith("discriminator") for name in found)
    assert_equal(found, gradients(theirs))

    for n in (ours, theirs):
        torch.optim.SGD(n.d.parameters(), lr=0.1).step()
        n.d.zero_grad()
    with frozen(ours.d):
        g_loss, terms = g_losses(ours, b, made, w, lambda_ds=lambda_ds)
        g_loss.backward()
    assert all(parameter.grad is None for parameter in ours.d.parameters())
    expected, plain_terms = plain.g_loss(theirs, b, w, lambda_ds)
    expected.backward()
    theirs.d.zero_grad()
    assert terms["g_loss"].item() == pytest.approx(expected.item(), abs=1e-12)
    assert {name: terms[name].item() for name in terms if name != "g_loss"} == pytest.approx(
        {name: value.item() for name, value in plain_terms.items() if name in terms}, abs=1e-12
    )
    assert ("ds" in terms) == (lambda_ds > 0)
    assert_equal(gradients(ours), gradients(theirs))


def test_without_weight_the_identity_is_not_computed_and_a_detached_target_gets_no_gradient():
    b, n = batch(), networks()
    _, terms = g_losses(n, b, make_fakes(n, b), replace(WEIGHTS, id=0.0), lambda_ds=0.0)
    assert "id" not in terms
    grads = []
    for detach in (False, True):
        one = networks()
        w = LossWeights(adv=0, sty=1, cyc=0, id=0, detach_style_target=detach)
        loss, _ = g_losses(one, b, make_fakes(one, b), w, lambda_ds=0.0)
        loss.backward()
        grads.append(gradients(one))
    assert any((grads[0][name] - grads[1][name]).abs().max() > 1e-6 for name in grads[0] if name.startswith("style_encoder"))


def test_r1_contributes_as_much_whatever_its_interval():
    """Every step with weight w_r1, or every fourth with 4 w_r1: over the same real latents the mean contribution is equal."""
    n, means = networks(), []
    for interval in (1, 4):
        w = replace(WEIGHTS, r1_interval=interval)
        added = []
        for step in range(1, 9):
            b = batch()  # the same at every step: expectation without chance
            with_r1 = step % interval == 0
            loss, terms = d_losses(n, b, make_fakes(n, b), w, with_r1=with_r1)
            without, _ = d_losses(n, b, make_fakes(n, b), w, with_r1=False)
            added.append(loss.item() - without.item())
            assert terms["r1"].item() == pytest.approx(added[-1] / (w.r1 * interval), abs=1e-9)
        means.append(sum(added) / len(added))
    assert means[0] == pytest.approx(means[1])
    assert means[0] > 0


def test_the_style_of_another_domain_is_another_and_the_mapping_has_a_way_for_each_domain():
    n, b = networks(), batch()
    other = (b.y_trg + 1) % 3
    assert (n.e(b.x_ref, b.y_trg) - n.e(b.x_ref, other)).abs().max() > 1e-3
    assert (n.f(b.z_trg, b.y_trg) - n.f(b.z_trg, other)).abs().max() > 1e-3
    assert n.d(b.x_ref, b.y_trg).shape == (5,)
    assert copy.deepcopy(n.g)(b.x_src, n.f(b.z_trg, b.y_trg)).shape == b.x_src.shape
