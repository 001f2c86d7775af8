from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from fashion_ml.errors import InputError
from fashion_ml.models.applied_lora import apply_lora
from fashion_ml.models.kohya_format import (
    check_lora,
    legacy_hash,
    load_lora,
    lora_tensors,
    model_hash,
    read_metadata,
    save_lora,
    spec_of,
)
from fashion_ml.models.lora import LoraSpec, add_lora
from fashion_ml.models.stable_diffusion import load_pipeline

RANK, ALPHA = 4, 6.0


@pytest.fixture
def trained(tmp_path: Path):  # type: ignore[no-untyped-def]
    """The embedded base with a LoRA after two optimiser steps at a large rate, and its file."""
    pipeline = load_pipeline("embedded")
    unet = pipeline.unet
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    spec = LoraSpec(RANK, ALPHA)
    parameters = add_lora(unet, pipeline.text_encoder, spec, seed=1).unet
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    inputs = torch.randn(2, 4, 16, 16), torch.tensor([10, 700]), torch.randn(2, 32, 128)
    for _ in range(2):
        unet(*inputs).sample.square().mean().backward()
        optimizer.step()
    save_lora(tmp_path / "lora.safetensors", lora_tensors(unet, None, spec), {"ss_network_dim": str(RANK)})
    return unet, parameters, before, inputs, tmp_path / "lora.safetensors"


def test_the_file_loaded_by_diffusers_gives_the_trained_output(trained):  # type: ignore[no-untyped-def]
    unet, _, _, inputs, path = trained
    fresh = load_pipeline("embedded")
    with torch.no_grad():
        base = fresh.unet(*inputs).sample
        fresh.load_lora_weights(str(path.parent), weight_name=path.name)
        loaded, ours = fresh.unet(*inputs).sample, unet(*inputs).sample
        fresh.disable_lora()
        off = fresh.unet(*inputs).sample
    assert (loaded - ours).abs().max() <= 1e-5
    assert (ours - base).abs().max() > 1e-2  # the LoRA does something, so the line above says something
    assert torch.equal(off, base)


def test_base_weights_are_bit_identical_and_only_the_lora_has_gradients(trained):  # type: ignore[no-untyped-def]
    unet, parameters, before, _, _ = trained
    after = {name.replace(".base_layer", ""): tensor for name, tensor in unet.state_dict().items() if "lora_" not in name}
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    with_gradient = {name for name, parameter in unet.named_parameters() if parameter.grad is not None}
    assert with_gradient == {name for name, _ in unet.named_parameters() if "lora_" in name}
    assert len(with_gradient) == len(parameters)


def test_keys_shapes_and_alpha_are_those_of_kohya(trained):  # type: ignore[no-untyped-def]
    unet, _, _, _, path = trained
    tensors = load_file(path)
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    assert tuple(tensors[f"{name}.lora_down.weight"].shape) == (RANK, 128)
    assert tuple(tensors[f"{name}.lora_up.weight"].shape) == (64, RANK)
    assert (tensors[f"{name}.alpha"].shape, tensors[f"{name}.alpha"].item()) == (torch.Size([]), ALPHA)
    assert "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0.lora_up.weight" in tensors
    blocks = sum(module.__class__.__name__ == "BasicTransformerBlock" for module in unet.modules())
    assert len(tensors) == blocks * 2 * 4 * 3  # self and cross, q k v out, down up alpha
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())


def test_a_new_lora_changes_nothing_and_leaves_the_global_random_state_alone():
    pipeline, inputs = load_pipeline("embedded"), (torch.randn(1, 4, 16, 16), torch.tensor([5]), torch.randn(1, 32, 128))
    with torch.no_grad():
        before = pipeline.unet(*inputs).sample
        state = torch.get_rng_state()
        parameters = add_lora(pipeline.unet, None, LoraSpec(RANK, ALPHA), seed=1).all
        assert torch.equal(torch.get_rng_state(), state)
        torch.testing.assert_close(pipeline.unet(*inputs).sample, before)
    again = add_lora(load_pipeline("embedded").unet, None, LoraSpec(RANK, ALPHA), seed=1).all
    assert all(torch.equal(a, b) for a, b in zip(parameters, again, strict=True))


def test_the_hashes_are_those_of_kohya(trained):  # type: ignore[no-untyped-def]
    """The model hash covers what follows the header, so new metadata does not change it."""
    path = trained[-1]
    content = path.read_bytes()
    start = 8 + struct.unpack("<Q", content[:8])[0]
    assert read_metadata(path)["sshs_model_hash"] == hashlib.sha256(content[start:]).hexdigest()
    assert read_metadata(path)["ss_network_dim"] == str(RANK)
    assert model_hash(save(load_file(path), {"other": "x"})) == model_hash(content)
    assert json.dumps(legacy_hash(content)) == f'"{hashlib.sha256(content[1 << 20 : (1 << 20) + (1 << 16)]).hexdigest()[:8]}"'


EVERYTHING = {"feed_forward": True, "projections": True, "convolutions": True, "train_text_encoder": True}
IDS, LATENTS, TIMES = torch.arange(64).view(2, 32), torch.randn(2, 4, 16, 16), torch.tensor([10, 700])


@torch.no_grad()
def output(pipeline):  # type: ignore[no-untyped-def]
    return pipeline.unet(LATENTS, TIMES, pipeline.text_encoder(IDS).last_hidden_state).sample


def moved(spec: LoraSpec, path: Path):  # type: ignore[no-untyped-def]
    """The embedded base with a LoRA far from zero, and its file."""
    pipeline = load_pipeline("embedded")
    parameters = add_lora(pipeline.unet, pipeline.text_encoder, spec, seed=1)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in parameters.all:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))
    save_lora(path, lora_tensors(pipeline.unet, pipeline.text_encoder, spec), {"ss_x": "y"})
    return pipeline


@pytest.mark.parametrize(
    "switches",
    [{}, {"feed_forward": True, "projections": True}, {"convolutions": True}, EVERYTHING, {"use_rslora": True}],
    ids=lambda switches: " ".join(switches) or "attention",
)
def test_every_target_loaded_by_diffusers_gives_the_trained_output(switches: dict[str, bool], tmp_path: Path):
    trained = moved(LoraSpec(RANK, ALPHA, **switches), tmp_path / "lora.safetensors")
    fresh = load_pipeline("embedded")
    base = output(fresh)
    fresh.load_lora_weights(str(tmp_path), weight_name="lora.safetensors")
    assert (output(fresh) - output(trained)).abs().max() <= 1e-5
    assert (output(fresh) - base).abs().max() > 1e-2


@pytest.mark.parametrize(
    "switches",
    [{}, EVERYTHING, {"use_dora": True, **EVERYTHING}, {"use_rslora": True}],
    ids=lambda switches: " ".join(switches) or "attention",
)
def test_continuing_from_a_file_begins_where_it_ended_also_with_another_alpha(switches: dict[str, bool], tmp_path: Path):
    path = tmp_path / "lora.safetensors"
    trained = moved(LoraSpec(RANK, ALPHA, **switches), path)
    for alpha in (ALPHA, 1.0):
        fresh = load_pipeline("embedded")
        spec = LoraSpec(RANK, alpha, **switches)
        add_lora(fresh.unet, fresh.text_encoder, spec, seed=2)
        load_lora(path, fresh.unet, fresh.text_encoder, spec)
        assert (output(fresh) - output(trained)).abs().max() <= 1e-5
    written = spec_of(load_file(path))
    assert (written.rank, written.train_text_encoder, written.use_dora) == (
        RANK,
        "train_text_encoder" in switches,
        "use_dora" in switches,
    )


def test_the_alpha_in_the_file_of_a_rank_stabilised_lora_is_the_one_readers_divide_by_the_rank(tmp_path: Path):
    """scale alpha / sqrt(r) = 6 / 2 = 3 is read as file_alpha / r, so file_alpha = 12"""
    moved(LoraSpec(4, 6.0, use_rslora=True), tmp_path / "lora.safetensors")
    assert {t.item() for n, t in load_file(tmp_path / "lora.safetensors").items() if n.endswith(".alpha")} == {12.0}


@pytest.mark.parametrize(
    ("ours", "says"),
    [
        (LoraSpec(8, 6.0), r"network\.rank: 8, but .* has rank 4; set it to 4"),
        (LoraSpec(4, 6.0, feed_forward=True), r"lacks lora_unet_.*_ff_net_.*; set network\.feed_forward to false"),
        (LoraSpec(4, 6.0, use_dora=True), r"network\.use_dora: true, but .* has no magnitudes"),
    ],
)
def test_a_file_that_does_not_fit_names_the_setting_to_change(ours: LoraSpec, says: str, tmp_path: Path):
    moved(LoraSpec(4, 6.0), tmp_path / "lora.safetensors")
    fresh = load_pipeline("embedded")
    add_lora(fresh.unet, fresh.text_encoder, ours, seed=0)
    with pytest.raises(InputError, match=says):
        load_lora(tmp_path / "lora.safetensors", fresh.unet, fresh.text_encoder, ours)


def of_two_ranks(tensors: dict[str, torch.Tensor], module: str) -> None:
    tensors[f"{module}.lora_down.weight"] = tensors[f"{module}.lora_down.weight"][:2].clone()
    tensors[f"{module}.lora_up.weight"] = tensors[f"{module}.lora_up.weight"][:, :2].clone()


def without_lora_up(tensors: dict[str, torch.Tensor], module: str) -> None:
    del tensors[f"{module}.lora_up.weight"]


def with_a_middle(tensors: dict[str, torch.Tensor], module: str) -> None:
    tensors[f"{module}.lora_mid.weight"] = torch.zeros(4, 4, 3, 3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (of_two_ranks, "network.rank: 4, but .* has rank 2; set it to 2"),
        (without_lora_up, r"holds .*\.(alpha|lora_down\.weight), which is no plain LoRA"),
        (with_a_middle, r"holds .*\.lora_mid\.weight, which is no plain LoRA"),
    ],
)
def test_a_file_that_is_no_plain_lora_is_told_before_the_models_have_theirs(change: Any, says: str, tmp_path: Path):
    path, spec = tmp_path / "lora.safetensors", LoraSpec(4, 6.0)
    moved(spec, path)
    fresh = load_pipeline("embedded")
    check_lora(path, fresh.unet, fresh.text_encoder, spec)
    tensors = load_file(path)
    change(tensors, next(iter(tensors)).partition(".")[0])
    save_file(tensors, path)
    with pytest.raises(InputError, match=says):
        check_lora(path, fresh.unet, fresh.text_encoder, spec)


def test_convolutions_have_kohyas_shapes(tmp_path: Path):
    moved(LoraSpec(RANK, ALPHA, convolutions=True), tmp_path / "lora.safetensors")
    tensors = load_file(tmp_path / "lora.safetensors")
    name = "lora_unet_down_blocks_0_resnets_0_conv1"
    assert tuple(tensors[f"{name}.lora_down.weight"].shape) == (RANK, 64, 3, 3)
    assert tuple(tensors[f"{name}.lora_up.weight"].shape) == (64, RANK, 1, 1)
    assert "lora_unet_conv_in.lora_down.weight" not in tensors


def test_a_file_of_half_precision_keeps_its_alphas_exact(tmp_path: Path):
    from safetensors.torch import load_file

    tensors = {"lora_unet_x.lora_down.weight": torch.ones(2, 3) / 3, "lora_unet_x.alpha": torch.tensor(16.1)}
    save_lora(tmp_path / "lora.safetensors", tensors, {}, torch.bfloat16)
    found = load_file(tmp_path / "lora.safetensors")
    assert found["lora_unet_x.lora_down.weight"].dtype == torch.bfloat16
    assert torch.equal(found["lora_unet_x.alpha"], torch.tensor(16.1))


def test_nan_in_a_lora_is_said_before_it_is_used(tmp_path: Path):
    pipeline, spec = load_pipeline("embedded"), LoraSpec(rank=2, alpha=2)
    add_lora(pipeline.unet, None, spec, seed=0)
    tensors = lora_tensors(pipeline.unet, None, spec)
    name = next(name for name in tensors if name.endswith("lora_up.weight"))
    save_lora(tmp_path / "nan.safetensors", {**tensors, name: tensors[name] * float("nan")}, {})
    says = rf"nan\.safetensors' holds NaN or Inf in {re.escape(name)} \({tensors[name].numel()} numbers\)"
    with pytest.raises(InputError, match=rf"network\.network_weights: '.*{says}"):
        check_lora(tmp_path / "nan.safetensors", pipeline.unet, None, spec)
    with pytest.raises(InputError, match=rf"lora: '.*{says}"):
        apply_lora(load_pipeline("embedded"), tmp_path / "nan.safetensors")


def test_a_base_given_as_a_lora_and_a_file_that_is_none_are_named(tmp_path: Path):
    pipeline = load_pipeline("embedded")
    for tensors, says in (
        ({"model.diffusion_model.out.2.bias": torch.ones(4)}, r"is no LoRA but a base model \(it holds model\.diffusion_model"),
        ({"x": torch.ones(1)}, "is no LoRA; give a LoRA's file"),
    ):
        save_file(tensors, tmp_path / "x.safetensors")
        with pytest.raises(InputError, match=rf"network\.network_weights: '.*' {says}"):
            check_lora(tmp_path / "x.safetensors", pipeline.unet, None, LoraSpec(rank=2, alpha=2))
        with pytest.raises(InputError, match=rf"lora: '.*' {says}"):
            apply_lora(pipeline, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=r"lora: '.*y\.safetensors' is not there; did you mean 'x\.safetensors' beside it\?"):
        apply_lora(pipeline, tmp_path / "xy.safetensors")


def test_a_module_of_a_lora_that_the_base_does_not_have_is_not_left_out_in_silence(tmp_path: Path):
    pipeline, spec = load_pipeline("embedded"), LoraSpec(rank=2, alpha=2)
    add_lora(pipeline.unet, None, spec, seed=0)
    tensors = lora_tensors(pipeline.unet, None, spec)
    first = next(iter(tensors)).partition(".")[0]
    strange = {
        name.replace("down_blocks_0", "down_blocks_7"): x.clone() for name, x in tensors.items() if name.startswith(f"{first}.")
    }
    save_lora(tmp_path / "more.safetensors", {**tensors, **strange}, {})
    says = r"more\.safetensors' holds \d+ modules, of which this base lacks 1 \(first \S+\): it was trained on another base"
    with pytest.raises(InputError, match=rf"lora: '.*{says}"):
        apply_lora(load_pipeline("embedded"), tmp_path / "more.safetensors")
    save_lora(tmp_path / "whole.SAFETENSORS", tensors, {})
    apply_lora(load_pipeline("embedded"), tmp_path / "whole.SAFETENSORS")
