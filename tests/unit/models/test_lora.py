from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from fashion_ml.models.lora import add_lora, legacy_hash, model_hash, read_metadata, save_lora
from fashion_ml.models.stable_diffusion import load_pipeline

RANK, ALPHA = 4, 6.0


@pytest.fixture
def trained(tmp_path: Path):  # type: ignore[no-untyped-def]
    """The embedded base with a LoRA after two optimiser steps at a large rate, and its file."""
    pipeline = load_pipeline("embedded")
    unet = pipeline.unet
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    parameters = add_lora(unet, rank=RANK, alpha=ALPHA, seed=1)
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    inputs = torch.randn(2, 4, 16, 16), torch.tensor([10, 700]), torch.randn(2, 32, 128)
    for _ in range(2):
        unet(*inputs).sample.square().mean().backward()
        optimizer.step()
    save_lora(tmp_path / "lora.safetensors", unet, ALPHA, {"ss_network_dim": str(RANK)})
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
        parameters = add_lora(pipeline.unet, rank=RANK, alpha=ALPHA, seed=1)
        assert torch.equal(torch.get_rng_state(), state)
        torch.testing.assert_close(pipeline.unet(*inputs).sample, before)
    again = add_lora(load_pipeline("embedded").unet, rank=RANK, alpha=ALPHA, seed=1)
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
