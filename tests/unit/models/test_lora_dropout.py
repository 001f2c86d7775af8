"""Ranks and modules that training leaves out, and norms that updates are held to, against hand-worked numbers and the large matrix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from fashion_ml.models.fused_lora import use_fused_linears
from fashion_ml.models.lora_dropout import add_dropout, lora_layers, scale_to_norm


class Small(torch.nn.Module):
    """A linear layer and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.conv = torch.nn.Linear(6, 5, bias=False), torch.nn.Conv2d(3, 4, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.line(x), self.conv(image)


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    made = get_peft_model(Small(), LoraConfig(r=4, lora_alpha=8, target_modules=["line", "conv"], init_lora_weights=False))
    return made.train()


def update(model: Any, x: torch.Tensor, image: torch.Tensor) -> list[torch.Tensor]:
    """What the LoRA adds to each of the two outputs."""
    with_it = model(x, image)
    with model.disable_adapter():
        without = model(x, image)
    return [one - other for one, other in zip(with_it, without, strict=True)]


def test_each_image_loses_ranks_of_its_own_and_the_others_count_the_more(model: Any):
    """Of one image every output is s * sum over some ranks of b_r (a_r x) / (1 - p): of 4 ranks with p 0.5 some subset, times 2."""
    add_dropout(model, 0.5, 0.0)
    layer = model.base_model.model.line
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x, image = torch.randn(1, 1, 6).expand(40, 2, 6), torch.randn(40, 3, 4, 4)
    torch.manual_seed(3)
    found = update(model, x, image)[0]
    parts = [2 * 2 * torch.outer(b[:, rank], a[rank]) @ x[0, 0] for rank in range(4)]
    subsets = torch.stack([sum((parts[r] for r in range(4) if mask >> r & 1), torch.zeros(5)) for mask in range(16)])
    nearest = (found[:, :1] - subsets[None]).norm(dim=-1).min(dim=1)
    assert nearest.values.max() < 1e-4
    assert len(set(nearest.indices.tolist())) > 6  # of 16 subsets
    torch.testing.assert_close(found[:, 0], found[:, 1])  # all places of an image lose the same


def test_convolutions_lose_ranks_too_and_nothing_is_lost_in_evaluation(model: Any):
    x, image = torch.randn(3, 2, 6), torch.randn(1, 3, 4, 4).expand(3, 3, 4, 4)
    whole = update(model.eval(), x, image)
    add_dropout(model, 0.4, 0.3)
    for one, other in zip(update(model, x, image), whole, strict=True):
        torch.testing.assert_close(one, other)
    convolved = update(model.train(), x, image)[1]
    assert not torch.allclose(convolved[0], convolved[1]) or not torch.allclose(convolved[1], convolved[2])


def test_the_mean_over_many_draws_is_the_whole_update(model: Any):
    add_dropout(model, 0.3, 0.0)
    x, image = torch.randn(1, 1, 6).expand(6000, 1, 6), torch.randn(1, 3, 2, 2)
    torch.manual_seed(1)
    mean = update(model, x, image)[0].mean(dim=0)
    torch.testing.assert_close(mean, update(model.eval(), x[:1], image)[0][0], atol=0.15, rtol=0.05)


def test_a_module_is_there_or_not_as_a_whole(model: Any):
    """Of 200 passes about 70 % have the whole update and the others none."""
    x, image = torch.randn(2, 2, 6), torch.randn(1, 3, 4, 4)
    whole = update(model.eval(), x, image)[0]
    add_dropout(model.train(), 0.0, 0.3)
    torch.manual_seed(0)
    kinds = []
    for _ in range(200):
        found = update(model, x, image)[0]
        kinds.append(bool(found.abs().max() > 1e-6))
        torch.testing.assert_close(found, whole if kinds[-1] else torch.zeros_like(whole), atol=1e-5, rtol=1e-5)
    assert 0.6 < sum(kinds) / 200 < 0.8


def test_layers_that_lose_something_are_not_fused(model: Any):
    assert use_fused_linears(model) == 1
    add_dropout(model, 0.1, 0.0)
    assert use_fused_linears(model) == 0


@pytest.mark.parametrize("most", [0.5, 1.0, 1000.0])
def test_updates_are_held_to_the_norm_of_the_large_matrix(model: Any, most: float):
    """s = 8 / 4 = 2: |2 B A| after it is the smaller of itself and the norm; A and B are scaled alike, and stay where it is small enough."""
    layers = lora_layers(model)
    before = [(one.lora_A["default"].weight.clone(), one.lora_B["default"].weight.clone()) for one in layers]
    norms = [(2 * b.flatten(1) @ a.flatten(1)).norm().item() for a, b in before]
    scale_to_norm(layers, most)
    for layer, (a, b), norm in zip(layers, before, norms, strict=True):
        new_a, new_b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        assert (2 * new_b.flatten(1) @ new_a.flatten(1)).norm().item() == pytest.approx(min(norm, most), rel=1e-5)
        factor = min(1.0, most / norm) ** 0.5
        torch.testing.assert_close(new_a, a * factor)
        torch.testing.assert_close(new_b, b * factor)
        if norm < most:
            assert torch.equal(new_a, a)


def test_an_update_that_is_zero_stays_zero(model: Any):
    for layer in lora_layers(model):
        torch.nn.init.zeros_(layer.lora_B["default"].weight)
    scale_to_norm(lora_layers(model), 0.1)
    assert all(layer.lora_A["default"].weight.isfinite().all() for layer in lora_layers(model))
