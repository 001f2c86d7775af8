"""The same layers one by one, and peft's own, are the reference."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fashion_ml.config import validate
from fashion_ml.models.cast_lora import Lowered
from fashion_ml.models.fused_attention import LoraProjections, use_fused_attention
from fashion_ml.models.fused_lora import use_fused_linears
from fashion_ml.models.lora import LoraParameters, LoraSpec, add_lora
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.training.lora_models import prepared_models


def model(
    *, attention: bool, dtype: torch.dtype = torch.bfloat16, linears: bool = True, **spec: Any
) -> tuple[Any, LoraParameters]:
    unet = load_pipeline("embedded", unet_dtype=dtype).unet
    parameters = add_lora(unet, None, LoraSpec(**{"rank": 4, "alpha": 6.0, **spec}), seed=0)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parameters.all:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))
    unet.train()
    if linears:
        use_fused_linears(unet)
    if attention:
        assert (use_fused_attention(unet) > 5) == (dtype != torch.float32)
    return unet, parameters


def predicted(unet: Any, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    draw = torch.Generator().manual_seed(2)
    x, text = torch.randn(2, 4, 16, 16, generator=draw).to(dtype), torch.randn(2, 8, 128, generator=draw).to(dtype)
    return unet(x, torch.tensor([10, 600]), text).sample


def gradients(unet: Any, parameters: LoraParameters) -> list[torch.Tensor]:
    predicted(unet).float().square().mean().backward()
    found = [parameter.grad for parameter in parameters.all]
    assert all(one is not None and one.dtype == torch.float32 for one in found)
    return found  # type: ignore[return-value]


def farness(found: list[torch.Tensor], exact: list[torch.Tensor]) -> float:
    """Root mean square of the differences over that of the numbers."""
    of = sum((one - other).square().sum().item() for one, other in zip(found, exact, strict=True))
    return (of / sum(other.square().sum().item() for other in exact)) ** 0.5


@pytest.mark.parametrize("spec", [{}, {"feed_forward": True, "projections": True}], ids=["attention", "all linear layers"])
def test_output_and_gradients_are_as_near_to_float32_as_pefts(spec: dict[str, Any]):
    unet, parameters = model(attention=False, dtype=torch.float32, linears=False, **spec)
    exact = predicted(unet, torch.float32)
    exact.square().mean().backward()
    right: list[torch.Tensor] = [parameter.grad for parameter in parameters.all]  # type: ignore[misc]
    errors = []
    for linears, attention in ((False, False), (True, False), (True, True)):
        with torch.autocast("cpu", torch.bfloat16, enabled=not linears):
            unet, parameters = model(attention=attention, linears=linears, **spec)
            errors.append((farness([predicted(unet).float()], [exact]), farness(gradients(unet, parameters), right)))
    assert 0 < errors[2][0] < 1.1 * errors[1][0] < 1.5 * errors[0][0]
    assert 0 < errors[2][1] < 1.1 * errors[1][1] < 2 * errors[0][1]


def test_the_operation_and_the_cast_have_the_gradients_of_numerical_ones():
    draw = torch.Generator().manual_seed(0)
    x, down, *ups = (
        torch.randn(shape, generator=draw, dtype=torch.float64) for shape in ((2, 3, 5), (6, 5), (4, 2), (4, 3), (2, 1))
    )
    weights = [torch.randn(len(up), 5, generator=draw, dtype=torch.float64) for up in ups]
    for tensor in (x, down, *ups):
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *inputs: LoraProjections.apply(inputs[0], 0.7, weights, *inputs[1:]), (x, down, *ups)
    )
    parts = [torch.randn(rows, 5, generator=draw, dtype=torch.float64, requires_grad=True) for rows in (1, 2, 3)]
    assert torch.autograd.gradcheck(lambda *inputs: Lowered.apply(torch.float64, (2, 1), list, *inputs), parts)
    both, third = Lowered.apply(torch.float32, (2, 1), list, *parts)
    torch.testing.assert_close(both, torch.cat(parts[:2]).float(), atol=0, rtol=0)
    both.sum().backward()
    assert parts[0].grad is not None
    assert parts[0].grad.dtype == torch.float64
    assert parts[2].grad is None
    assert third.shape == (3, 5)


def test_weights_that_changed_count_from_the_next_call_and_without_a_model_at_once():
    unet, parameters = model(attention=True)
    block = next(module for module in unet.modules() if type(module).__name__ == "BasicTransformerBlock")
    x = torch.randn(1, 9, block.attn1.to_q.in_features, dtype=torch.bfloat16)
    with torch.no_grad():
        first, alone = predicted(unet), block.attn1(x)
        for parameter in parameters.all:
            parameter.mul_(-3)
        assert (block.attn1(x) - alone).abs().max() > 1e-3  # nobody called the model
        second = predicted(unet)
        assert (second - first).abs().max() > 1e-3
        for parameter in parameters.all:
            parameter.div_(-3)
    assert (predicted(unet) - first).abs().max() < 0.1 * (second - first).abs().max()
    block.attn1(x).sum().backward()  # what was cast without gradients is not used where they are wanted
    assert block.attn1.to_q.lora_A["default"].weight.grad is not None


def test_gradients_through_checkpoints_are_the_same_and_those_of_two_batches_add_up():
    plain = gradients(*model(attention=True))
    unet, parameters = model(attention=True)
    unet.enable_gradient_checkpointing()
    for one, other in zip(gradients(unet, parameters), plain, strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)
    twice = [one.clone() for one in gradients(unet, parameters)]
    for one, other in zip(twice, plain, strict=True):
        torch.testing.assert_close(one, 2 * other, atol=0, rtol=0)


def test_two_calls_may_wait_for_their_gradients_at_once():
    plain = gradients(*model(attention=True))
    for checkpointing in (False, True):
        unet, parameters = model(attention=True)
        if checkpointing:
            unet.enable_gradient_checkpointing()
        first, second = (predicted(unet).float().square().mean() for _ in range(2))
        first.backward()
        second.backward()
        for parameter, other in zip(parameters.all, plain, strict=True):
            torch.testing.assert_close(parameter.grad, 2 * other, atol=0, rtol=0)


def test_a_lora_that_is_taken_off_leaves_the_base_and_another_one_is_cast_alone():
    pipeline = load_pipeline("embedded", unet_dtype=torch.bfloat16)
    unet = pipeline.unet
    with torch.no_grad():
        base = predicted(unet)
        for _ in range(2):
            add_lora(unet, None, LoraSpec(4, 4.0), seed=0)
            use_fused_linears(unet)
            assert use_fused_attention(unet) > 5
            predicted(unet)
            assert len(unet._forward_pre_hooks) == 1
            unet.delete_adapters("default")
            torch.testing.assert_close(predicted(unet), base, atol=0, rtol=0)
            pipeline.unload_lora_weights()
            torch.testing.assert_close(predicted(unet), base, atol=0, rtol=0)


def test_a_copy_computes_with_its_own_weights():
    unet, _ = model(attention=True)
    with torch.no_grad():
        before = predicted(unet)
    predicted(unet)  # with gradients: what is kept then cannot be copied
    other = copy.deepcopy(unet)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if "lora_" in name:
                parameter.zero_()
        assert (predicted(other) - before).abs().max() > 1e-3
        torch.testing.assert_close(predicted(unet), before, atol=0, rtol=0)


def test_a_switched_off_adapter_a_mask_and_float32_keep_to_diffusers():
    unet, _ = model(attention=True)
    plain = load_pipeline("embedded", unet_dtype=torch.bfloat16).unet
    with torch.no_grad():
        unet.disable_adapters()
        torch.testing.assert_close(predicted(unet), predicted(plain), atol=0, rtol=0)
        unet.enable_adapters()
        block = next(module for module in unet.modules() if type(module).__name__ == "BasicTransformerBlock")
        x = torch.randn(2, 9, block.attn1.to_q.in_features, dtype=torch.bfloat16)
        mask = torch.zeros(2, 1, 9, dtype=torch.bfloat16)
        mask[:, :, 5:] = -1e4
        predicted(unet)
        few = block.attn1(x, attention_mask=mask)
        torch.testing.assert_close(few[:, :1], block.attn1(torch.cat([x[:, :1], x[:, 1:5]], 1))[:, :1], atol=0.02, rtol=0.02)
        ours, theirs = (predicted(model(attention=one, dtype=torch.float32)[0], torch.float32) for one in (True, False))
    torch.testing.assert_close(ours, theirs, atol=0, rtol=0)


@pytest.mark.parametrize(("mode", "joined"), [("no", True), ("cudagraphs", True), ("default", False)])
def test_a_training_has_it_unless_torch_writes_the_kernels(mode: str, joined: bool):
    pipeline = load_pipeline("embedded", unet_dtype=torch.bfloat16)
    tree = {"data": {"train_data_dir": "x"}, "training": {"mixed_precision": "bf16", "compile": mode}}
    config = validate(tree)
    add_lora(pipeline.unet, None, LoraSpec(4, 4.0), seed=0)
    accelerator = SimpleNamespace(device=torch.device("cpu"), num_processes=1, prepare=lambda one: one, autocast=None)
    prepared_models(config, pipeline, [pipeline.unet], accelerator)
    with_lora = [module for module in pipeline.unet.modules() if hasattr(module, "_fused_adapter")]
    assert len(with_lora) > 50
    assert {hasattr(module, "_cast") for module in with_lora} == {joined}
