"""peft's own layers are the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fashion_ml.models import fused_lora
from fashion_ml.models.fused_lora import LoraLinear, use_fused_linears
from fashion_ml.models.lora import LoraParameters, LoraSpec, add_lora
from fashion_ml.models.stable_diffusion import load_pipeline


def model(fused: bool, dtype: torch.dtype = torch.float32, **switches: Any) -> tuple[Any, LoraParameters]:
    pipeline = load_pipeline("embedded", unet_dtype=dtype)
    parameters = add_lora(pipeline.unet, pipeline.text_encoder, LoraSpec(rank=4, alpha=6.0, **switches), seed=0)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parameters.all:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))
    if fused:
        assert use_fused_linears(pipeline.unet) > 50
    return pipeline.unet, parameters


def output_and_gradients(unet: Any, parameters: LoraParameters) -> tuple[torch.Tensor, list[torch.Tensor]]:
    draw = torch.Generator().manual_seed(2)
    x, text = torch.randn(2, 4, 16, 16, generator=draw), torch.randn(2, 8, 128, generator=draw)
    out = unet(x, torch.tensor([10, 600]), text).sample
    out.float().square().mean().backward()
    return out.detach(), [parameter.grad.clone() for parameter in parameters.all if parameter.grad is not None]


@pytest.mark.parametrize("most", [0, fused_lora.MOST_MERGED, 1 << 40], ids=["one operation", "as it is", "merged"])
@pytest.mark.parametrize("switches", [{}, {"feed_forward": True, "projections": True}, {"use_rslora": True}], ids=str)
def test_output_and_every_gradient_equal_those_of_peft(switches: dict[str, bool], most: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fused_lora, "MOST_MERGED", most)
    expected, gradients = output_and_gradients(*model(False, **switches))
    found, ours = output_and_gradients(*model(True, **switches))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert len(ours) == len(gradients) > 100
    for mine, theirs in zip(ours, gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5 * theirs.abs().max().item(), rtol=1e-4)


def test_in_bf16_it_is_as_near_to_float32_as_peft_is():
    exact, _ = output_and_gradients(*model(False))
    errors = []
    for fused in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            found, gradients = output_and_gradients(*model(fused, torch.bfloat16))
        assert {gradient.dtype for gradient in gradients} == {torch.float32}
        errors.append((found.float() - exact).abs().mean().item())
    assert 0 < errors[1] < 1.2 * errors[0]


def test_gradients_of_the_operation_equal_numerical_ones():
    draw = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 5), (4, 5), (4,), (2, 5), (4, 2))
    x, weight, bias, down, up = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes)
    for tensor in (x, down, up):
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(lambda *inputs: LoraLinear.apply(inputs[0], weight, bias, *inputs[1:], 0.7), (x, down, up))
    assert torch.autograd.gradcheck(lambda *inputs: LoraLinear.apply(inputs[0], weight, None, *inputs[1:], 0.7), (x, down, up))


def test_a_switched_off_adapter_gives_the_base():
    unet, _ = model(True)
    plain = load_pipeline("embedded").unet
    x, text = torch.randn(1, 4, 16, 16), torch.randn(1, 8, 128)
    with torch.no_grad():
        on = unet(x, 5, text).sample
        unet.disable_adapters()
        off = unet(x, 5, text).sample
        assert (on - off).abs().max() > 1e-3
        torch.testing.assert_close(off, plain(x, 5, text).sample, atol=0, rtol=0)


@pytest.mark.parametrize("switches", [{"dropout": 0.5}, {"use_dora": True}], ids=str)
def test_layers_with_dropout_or_dora_stay_pefts(switches: dict[str, Any]):
    unet, _ = model(False, **switches)
    assert use_fused_linears(unet) == 0
