from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from fashion_ml.errors import InputError
from fashion_ml.models import single_file
from fashion_ml.models.original_checkpoint import original_tensors
from fashion_ml.models.single_file import CONFIGS, checkpoint_kind, clip_tokenizer, load_single_file


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A pipeline with the structure of SD 1.5 (same levels, layers and text width), narrow elsewhere, and configs for it."""
    torch.manual_seed(0)
    changes: dict[str, dict[str, Any]] = {
        "unet": {"block_out_channels": [32, 64, 64, 64], "attention_head_dim": 8},
        "vae": {"block_out_channels": [32, 32, 32, 32]},
        "text_encoder": {"num_hidden_layers": 2, "intermediate_size": 64, "vocab_size": 49408},
    }
    folder = tmp_path / "configs" / "sd1"
    for path in (CONFIGS / "sd1").rglob("*.json"):
        config = json.loads(path.read_text(encoding="utf-8")) | changes.get(path.parent.name, {})
        (folder / path.relative_to(CONFIGS / "sd1")).parent.mkdir(parents=True, exist_ok=True)
        (folder / path.relative_to(CONFIGS / "sd1")).write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setattr(single_file, "CONFIGS", tmp_path / "configs")
    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_config(folder / "vae"),
        unet=UNet2DConditionModel.from_config(folder / "unet"),
        text_encoder=CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder")),
        tokenizer=clip_tokenizer("sd1"),
        scheduler=DDIMScheduler.from_config(folder / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_checkpoint_comes_back_with_every_weight_as_it_was(small: Any, tmp_path: Path, dtype: torch.dtype):
    tensors = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in original_tensors(small).items()
    }
    save_file(tensors, tmp_path / "model.safetensors")
    loaded = load_single_file(tmp_path / "model.safetensors")
    for part in ("unet", "vae", "text_encoder"):
        before, after = getattr(small, part).state_dict(), getattr(loaded, part).state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(after[name], tensor.to(dtype).to(after[name].dtype)) for name, tensor in before.items())
    assert loaded.scheduler.config.prediction_type == "epsilon"
    assert loaded.vae.config.scaling_factor == 0.18215


def test_the_prediction_type_is_what_is_asked_for_else_what_the_file_says(small: Any, tmp_path: Path):
    path = tmp_path / "v.safetensors"
    save_file(original_tensors(small), path, {"modelspec.prediction_type": "v"})
    assert load_single_file(path).scheduler.config.prediction_type == "v_prediction"
    assert load_single_file(path, "epsilon").scheduler.config.prediction_type == "epsilon"


def test_a_pipeline_that_predicts_v_says_so_in_its_single_file(small: Any, tmp_path: Path):
    small.scheduler.register_to_config(prediction_type="v_prediction")
    try:
        save_file(original_tensors(small), tmp_path / "v.safetensors")
    finally:
        small.scheduler.register_to_config(prediction_type="epsilon")
    assert load_single_file(tmp_path / "v.safetensors").scheduler.config.prediction_type == "v_prediction"


def test_a_schedule_that_ends_in_pure_noise_goes_through_a_single_file(small: Any, tmp_path: Path):
    """Its marker is `ztsnr`, as NoobAI's files have it; the last abar is 0, as diffusers' own rescaling gives it."""
    before = small.scheduler
    small.scheduler = DDIMScheduler.from_config(before.config, rescale_betas_zero_snr=True, prediction_type="v_prediction")
    try:
        save_file(original_tensors(small), tmp_path / "z.safetensors")
    finally:
        small.scheduler = before
    found = load_single_file(tmp_path / "z.safetensors").scheduler
    assert found.alphas_cumprod[-1] == 0
    assert (found.config.prediction_type, found.config.timestep_spacing) == ("v_prediction", "trailing")


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_the_tokenizer_gives_the_ids_of_openai_clip(kind: str):
    texts = ["a red striped dress", 'Café, naïve — 12 pleats & "zarya" style?', "", "a " * 200, "衣服 🧥 <lora:x:1>"]
    ours = clip_tokenizer(kind)(texts, padding="max_length", truncation=True, return_tensors="pt")
    theirs = open_clip.SimpleTokenizer()(texts)
    end = 49407
    for row, reference in zip(ours.input_ids.tolist(), theirs.tolist(), strict=True):
        length = reference.index(end) + 1
        assert row[:length] == reference[:length]
        assert set(row[length:]) <= {end if kind == "sd1" else 0}


def test_sd_2_is_recognised_by_its_text_width_and_predicts_v():
    key = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    parts: dict[str, tuple[int, ...]] = {"first_stage_model.x": (1,), "cond_stage_model.x": (1,)}
    assert checkpoint_kind(Path("x"), {key: (320, 1024), **parts}) == "sd2"
    assert checkpoint_kind(Path("x"), {key: (320, 768), **parts}) == "sd1"
    scheduler = json.loads((CONFIGS / "sd2" / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    assert scheduler["prediction_type"] == "v_prediction"


UNET = {"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(2, 768)}
XL = {"model.diffusion_model.label_emb.0.0.weight": torch.zeros(2, 3)}
VAE = {"first_stage_model.x": torch.zeros(1)}


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"conditioner.embedders.0.x": torch.zeros(1)}, "holds no Stable Diffusion UNet"),
        (XL | {"conditioner.embedders.0.model.x": torch.zeros(1)}, "is the refiner of Stable Diffusion XL"),
        (XL | VAE, r"holds no text encoder \(conditioner.embedders.0"),
        (XL | VAE | {"conditioner.embedders.0.x": torch.zeros(1)}, r"holds no second text encoder \(conditioner.embedders.1"),
        ({"lora_unet_x.lora_down.weight": torch.zeros(1)}, "is a LoRA, not a base model"),
        ({"x": torch.zeros(1)}, "holds no Stable Diffusion UNet"),
        (UNET, r"holds no VAE \(first_stage_model"),
        (UNET | VAE, "holds no text encoder"),
        (UNET | {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(2, 9, 1, 1)}, "is an inpainting"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_sentence(tensors: dict[str, torch.Tensor], says: str, tmp_path: Path):
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=rf"model\.base: .*{says}"):
        load_single_file(tmp_path / "x.safetensors")


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path):
    (tmp_path / "x.safetensors").write_bytes(b"\x00\xff\x03\x04 not this at all")
    with pytest.raises(InputError, match=r"is no \.safetensors file"):
        load_single_file(tmp_path / "x.safetensors")
