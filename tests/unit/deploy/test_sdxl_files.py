"""LoRA files of Stable Diffusion XL converted, merged with others, averaged, made smaller and extracted, and what they say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fashion_ml.deploy.export_file import convert_lora
from fashion_ml.deploy.hub_folder import card
from fashion_ml.deploy.lora_files import average_of, extract_lora, merge_loras, resize_lora
from fashion_ml.errors import InputError
from fashion_ml.models.applied_lora import apply_lora
from fashion_ml.models.file_metadata import base_metadata
from fashion_ml.models.kohya_format import read_metadata
from fashion_ml.models.stable_diffusion import load_pipeline
from tests.tiny_sdxl import tiny_sdxl
from tests.unit.deploy.test_hub_folder import config_of
from tests.unit.models.test_sdxl_lora_files import DEFAULT, LOCON, close, said, trained


def test_what_a_file_says_of_its_base_is_kohyas():
    """sd-scripts: MODEL_VERSION_SDXL_BASE_V1_0, and sai_model_spec of a LoRA of SDXL."""
    assert base_metadata(tiny_sdxl()) == {
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_v2": False,
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.prediction_type": "epsilon",
    }
    assert base_metadata(tiny_sdxl(prediction_type="v_prediction"))["modelspec.prediction_type"] == "v"


def test_a_file_of_diffusers_becomes_kohyas_and_back(sdxl: Path, tmp_path: Path):
    expected = trained(LOCON, tmp_path / "lora.safetensors")
    convert_lora(tmp_path / "lora.safetensors", "diffusers", tmp_path / "folder", str(sdxl))
    convert_lora(tmp_path / "folder" / "pytorch_lora_weights.safetensors", "kohya", tmp_path / "back.safetensors", str(sdxl))
    before, after = load_file(tmp_path / "lora.safetensors"), load_file(tmp_path / "back.safetensors")
    assert before.keys() == after.keys()
    fresh = tiny_sdxl()
    apply_lora(fresh, tmp_path / "back.safetensors")
    close(said(fresh), expected)
    assert read_metadata(tmp_path / "back.safetensors")["ss_base_model_version"] == "sdxl_base_v1-0"


def test_merged_into_its_base_it_loads_from_a_folder(sdxl: Path, tmp_path: Path):
    expected = trained(DEFAULT, tmp_path / "lora.safetensors")
    convert_lora(tmp_path / "lora.safetensors", "merged", tmp_path / "merged", str(sdxl))
    close(said(load_pipeline(str(tmp_path / "merged"))), expected)
    with pytest.raises(InputError, match=r"^--output: '.*one\.safetensors' cannot be one file \(only the architectures of"):
        convert_lora(tmp_path / "lora.safetensors", "merged", tmp_path / "one.safetensors", str(sdxl))


def test_without_a_base_the_real_sizes_are_meant(tmp_path: Path):
    """Of a file whose names say SDXL no base is asked for; one of other sizes is refused."""
    key = "unet.down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_k"
    save_file(
        {f"{key}.lora.down.weight": torch.ones(2, 2048), f"{key}.lora.up.weight": torch.ones(1280, 2)},
        tmp_path / "d.safetensors",
    )
    convert_lora(tmp_path / "d.safetensors", "kohya", tmp_path / "k.safetensors")
    module = "lora_unet_input_blocks_8_1_transformer_blocks_9_attn2_to_k"
    assert {name.partition(".")[0] for name in load_file(tmp_path / "k.safetensors")} == {module}
    trained(DEFAULT, tmp_path / "tiny.safetensors")
    with pytest.raises(InputError, match=r"cross-attention of 80 numbers, this base has 2048\)"):
        convert_lora(tmp_path / "tiny.safetensors", "kohya", tmp_path / "x.safetensors")


def test_sums_averages_and_smaller_ranks_are_of_the_same_modules(tmp_path: Path):
    expected = trained(DEFAULT, tmp_path / "a.safetensors")
    made = merge_loras([tmp_path / "a.safetensors"] * 2, [0.25, 0.75], tmp_path / "sum.safetensors")
    assert made.ranks == (8, 8)
    average_of([tmp_path / "a.safetensors"] * 2, tmp_path / "mean.safetensors")
    assert resize_lora(tmp_path / "sum.safetensors", tmp_path / "small.safetensors", 4, None).kept == pytest.approx((1, 1))
    for name in ("sum", "mean", "small"):
        fresh = tiny_sdxl()
        apply_lora(fresh, tmp_path / f"{name}.safetensors")
        close(said(fresh), expected)


def test_what_a_tuned_base_has_over_another_is_extracted_of_all_text_encoders(sdxl: Path, tmp_path: Path):
    expected = trained(DEFAULT, tmp_path / "lora.safetensors")
    tuned = tiny_sdxl()
    apply_lora(tuned, tmp_path / "lora.safetensors").merge()
    tuned.save_pretrained(tmp_path / "tuned")
    made = extract_lora(str(sdxl), str(tmp_path / "tuned"), tmp_path / "out.safetensors", 4)
    assert made.kept is not None
    assert made.kept[0] > 0.9999
    fresh = tiny_sdxl()
    apply_lora(fresh, tmp_path / "out.safetensors")
    close(said(fresh), expected, 1e-4)
    assert read_metadata(tmp_path / "out.safetensors")["ss_base_model_version"] == "sdxl_base_v1-0"


def test_the_card_of_a_file_names_the_pipeline_that_reads_it(tmp_path: Path):
    trained(DEFAULT, tmp_path / "xl.safetensors")
    text = card(config_of("a/xl"), None, tmp_path / "xl.safetensors", diffusers=True)
    assert "pipeline = StableDiffusionXLPipeline.from_pretrained('a/xl')" in text
