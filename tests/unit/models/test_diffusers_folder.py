"""Folders for diffusers are read alike by versions that know less: no alphas, the older names, the older tokenizer files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from fashion_ml.deploy.export import with_base
from fashion_ml.models.diffusers_folder import LORA_NAME, diffusers_lora
from fashion_ml.models.kohya_format import lora_tensors, save_lora
from fashion_ml.models.lora import LoraSpec, add_lora
from fashion_ml.models.stable_diffusion import load_pipeline

SPEC = LoraSpec(rank=4, alpha=3.0, convolutions=True, conv_rank=2, conv_alpha=1.5, train_text_encoder=True, use_rslora=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a LoRA of two ranks, `lora.safetensors`, and both folder exports of it."""
    pipeline, folder = load_pipeline("embedded"), tmp_path_factory.mktemp("lora")
    draws = torch.Generator().manual_seed(0)
    for parameter in add_lora(pipeline.unet, pipeline.text_encoder, SPEC, seed=1).all:
        parameter.data.copy_(torch.randn(parameter.shape, generator=draws) * 0.1)
    save_lora(folder / "lora.safetensors", lora_tensors(pipeline.unet, pipeline.text_encoder, SPEC), {})
    for form in ("diffusers", "merged"):
        with_base(folder / "lora.safetensors", "embedded", {}, form, folder / form)
    return folder


def test_a_reader_that_takes_alpha_to_be_the_rank_adds_what_the_file_says(written: Path):
    ours, theirs = load_file(written / "lora.safetensors"), load_file(written / "diffusers" / LORA_NAME)
    assert {tensor.shape[0] for name, tensor in theirs.items() if name.endswith("lora_A.weight")} == {4}
    assert not [name for name in theirs if "alpha" in name]
    for name in (name.removesuffix(".lora_A.weight") for name in theirs if name.endswith(".lora_A.weight")):
        module = ("lora_" + name.replace(".", "_")).replace("lora_text_encoder_", "lora_te_")
        down, up = ours[f"{module}.lora_down.weight"], ours[f"{module}.lora_up.weight"]
        says = ours[f"{module}.alpha"].item() / down.shape[0] * up.flatten(1) @ down.flatten(1)
        a, b = theirs[f"{name}.lora_A.weight"], theirs[f"{name}.lora_B.weight"]
        torch.testing.assert_close(b.flatten(1) @ a.flatten(1), says, atol=1e-6, rtol=1e-5)


def test_metadata_says_the_rank_and_the_alpha_of_the_tensors(written: Path):
    with safe_open(written / "diffusers" / LORA_NAME, framework="pt") as file:
        told = json.loads(file.metadata()["lora_adapter_metadata"])
    for model in ("unet", "text_encoder"):
        assert (told[f"{model}.r"], told[f"{model}.lora_alpha"], told[f"{model}.use_dora"]) == (4, 4, False)


def test_the_text_part_has_the_names_of_transformers_4(written: Path):
    lora = [name for name in load_file(written / "diffusers" / LORA_NAME) if name.startswith("text_encoder.")]
    merged = list(load_file(written / "merged" / "text_encoder" / "model.safetensors"))
    assert lora
    assert all(name.startswith("text_encoder.text_model.encoder.layers.") for name in lora)
    assert all(name.startswith("text_model.") for name in merged)


def test_vocabulary_and_merges_alone_make_the_same_tokens(written: Path):
    captions = ["a red dress with dots", "Photo of THE jacket, 2 pockets!", "naïve café"]
    tokenizer = written / "merged" / "tokenizer"
    (tokenizer / "tokenizer.json").unlink()
    old = CLIPTokenizer(vocab=str(tokenizer / "vocab.json"), merges=str(tokenizer / "merges.txt"))
    assert old(captions).input_ids == load_pipeline("embedded").tokenizer(captions).input_ids


def test_half_precision_stays_where_the_scale_is_exact_and_is_left_where_it_is_not():
    for scale, dtype in ((0.5, torch.float16), (0.3, torch.float32)):
        parts = {"down": torch.ones(2, 3, dtype=torch.float16), "up": torch.ones(5, 2, dtype=torch.float16)}
        tensors, _ = diffusers_lora({"lora_unet_q": parts}, {"lora_unet_q": "q"}, {"lora_unet_q": scale})
        assert tensors["unet.q.lora_B.weight"].dtype == dtype
        assert torch.equal(tensors["unet.q.lora_B.weight"].float(), torch.full((5, 2), scale))
