"""Single-file checkpoints of Stable Diffusion XL in the original layout: read and written, and held against diffusers' own conversion."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file

from fashion_ml.errors import InputError
from fashion_ml.models import single_file
from fashion_ml.models.applied_lora import apply_lora
from fashion_ml.models.diffusers_folder import write_pipeline_folder
from fashion_ml.models.open_clip_names import from_open_clip, to_open_clip
from fashion_ml.models.original_checkpoint import original_tensors
from fashion_ml.models.single_file import CONFIGS, load_single_file, load_single_vae
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.models.vae import load_other_vae, load_vae
from tests.tiny_sdxl import tiny_sdxl, write_tiny_sdxl
from tests.unit.models.test_sdxl_lora_files import LOCON, said, trained

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny one in diffusers' layout."""
    return write_tiny_sdxl(tmp_path_factory.mktemp("configs") / "sdxl")


@pytest.fixture(autouse=True)
def tiny_configs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_file, "CONFIGS", folder.parent)


def written(path: Path, dtype: torch.dtype = torch.float32, pipeline: Any = None) -> Path:
    tensors = original_tensors(pipeline or tiny_sdxl())
    save_file({name: one.to(dtype) for name, one in tensors.items()}, path)
    return path


def check_equal(found: Any, expected: Any, dtype: torch.dtype = torch.float32) -> None:
    for part in PARTS:
        before, after = getattr(expected, part).state_dict(), getattr(found, part).state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(after[name], one.to(dtype)) for name, one in before.items()), part


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_checkpoint_comes_back_with_every_weight_as_it_was(dtype: torch.dtype, tmp_path: Path):
    found = load_single_file(written(tmp_path / "xl.safetensors", dtype))
    assert isinstance(found, StableDiffusionXLPipeline)
    check_equal(found, tiny_sdxl(), dtype)
    assert found.scheduler.config.prediction_type == "epsilon"
    assert (found.tokenizer.pad_token, found.tokenizer_2.pad_token) == ("<|endoftext|>", "!")
    assert found.config.force_zeros_for_empty_prompt
    assert found.vae.config.scaling_factor == 0.13025


def test_diffusers_own_conversion_gives_the_same_weights(folder: Path, tmp_path: Path):
    path = written(tmp_path / "xl.safetensors")
    theirs = StableDiffusionXLPipeline.from_single_file(
        str(path), config=str(folder), local_files_only=True, add_watermarker=False
    )
    check_equal(load_single_file(path), theirs)


def test_the_layout_is_the_original_one(tmp_path: Path):
    """Names and shapes that sd-scripts and SGM read."""
    tensors = original_tensors(tiny_sdxl())
    assert tensors["conditioner.embedders.1.model.transformer.resblocks.2.attn.in_proj_weight"].shape == (3 * 48, 48)
    assert tensors["conditioner.embedders.1.model.positional_embedding"].shape == (77, 48)
    projection = tiny_sdxl().text_encoder_2.text_projection.weight
    assert torch.equal(tensors["conditioner.embedders.1.model.text_projection"], projection.T)
    for name in (
        "conditioner.embedders.0.transformer.text_model.encoder.layers.2.mlp.fc1.weight",
        "model.diffusion_model.label_emb.0.2.bias",
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight",
        "model.diffusion_model.output_blocks.2.2.conv.weight",
        "first_stage_model.encoder.mid.attn_1.q.weight",
    ):
        assert name in tensors


def test_open_clips_names_are_an_inverse():
    state = tiny_sdxl().text_encoder_2.state_dict()
    back = from_open_clip({f"model.{name}": one for name, one in to_open_clip(state).items()}, 3, "x", projects=True)
    assert {name.removeprefix("text_model."): one for name, one in state.items()}.keys() == back.keys()
    assert all(torch.equal(back[name.removeprefix("text_model.")], one) for name, one in state.items())


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a weight less": (lambda t: t.pop("conditioner.embedders.1.model.ln_final.bias"), r"lacks 1 of its \d+ weights"),
    "no projection": (lambda t: t.pop("conditioner.embedders.1.model.text_projection"), r"lacks 1 of its \d+ weights"),
    "another width": (
        lambda t: t.update({"model.diffusion_model.label_emb.0.0.weight": torch.zeros(64, 60)}),
        "holds 1 weight of another shape, model.diffusion_model.label_emb.0.0.weight",
    ),
    "NaN": (
        lambda t: t["model.diffusion_model.out.2.bias"].fill_(float("nan")),
        r"holds NaN or Inf in model.diffusion_model.out.2.bias \(4 numbers\)",
    ),
    "no VAE": (
        lambda t: [t.pop(name) for name in list(t) if name.startswith("first_stage")],
        r"holds no VAE \(first_stage_model",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_not_whole_is_refused_in_one_sentence(change: str, tmp_path: Path):
    tensors = {name: one.clone() for name, one in original_tensors(tiny_sdxl()).items()}
    CHANGES[change][0](tensors)
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=rf"model\.base: '.*x\.safetensors' {CHANGES[change][1]}"):
        load_single_file(tmp_path / "x.safetensors")


def test_what_a_v_checkpoint_says_goes_through_a_single_file(tmp_path: Path):
    """The markers of NoobAI's kind."""
    pipeline = tiny_sdxl(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    found = load_single_file(written(tmp_path / "v.safetensors", pipeline=pipeline)).scheduler.config
    assert (found.prediction_type, found.rescale_betas_zero_snr, found.timestep_spacing) == ("v_prediction", True, "trailing")


def test_latents_are_not_clipped_where_the_base_says_nothing_of_it(folder: Path):
    """DDIM's own default is for pixels, and EulerDiscreteScheduler's files need not say otherwise."""
    said_nothing = json.loads((folder / "scheduler" / "scheduler_config.json").read_text("utf-8"))
    assert "clip_sample" not in said_nothing
    shipped = json.loads((CONFIGS / "sdxl" / "scheduler" / "scheduler_config.json").read_text("utf-8"))
    for found in (load_pipeline(str(folder)).scheduler.config, shipped):
        assert (found["clip_sample"], found["set_alpha_to_one"], found["steps_offset"]) == (False, False, 1)


def test_its_vae_alone_is_read_with_its_own_scale(tmp_path: Path):
    found = load_single_vae(written(tmp_path / "xl.safetensors"), "model.vae: 'x'")
    assert found.config.scaling_factor == 0.13025
    expected = tiny_sdxl().vae.state_dict()
    assert all(torch.equal(one, expected[name]) for name, one in found.state_dict().items())


@pytest.fixture
def vae_alone(folder: Path, tmp_path: Path) -> Path:
    """A file with nothing but weights, as the fp16-fix VAE is passed around; the tiny base has the form that SD 1.x's is read in."""
    there = folder.parent / "sd1" / "vae"
    if not there.exists():
        shutil.copytree(folder / "vae", there)
        facts = json.loads((there / "config.json").read_text("utf-8"))
        (there / "config.json").write_text(json.dumps({**facts, "scaling_factor": 0.18215}), "utf-8")
    save_file(tiny_sdxl().vae.state_dict(), tmp_path / "alone.safetensors")
    return tmp_path / "alone.safetensors"


def test_a_vae_alone_decodes_with_the_scale_of_the_base_that_it_decodes_for(vae_alone: Path):
    assert load_other_vae(str(vae_alone), tiny_sdxl().vae).config.scaling_factor == 0.13025


def test_a_vae_alone_for_nothing_else_is_said_to_have_the_scale_of_the_first_family(
    vae_alone: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level("INFO"):
        assert load_vae(str(vae_alone)).config.scaling_factor == 0.18215
    assert "alone.safetensors does not say its scaling_factor, taken as 0.18215" in caplog.text


def test_a_vae_of_another_familys_scale_is_refused(vae_alone: Path, tmp_path: Path):
    other = shutil.copytree(single_file.CONFIGS / "sd1" / "vae", tmp_path / "other")
    vae_alone.rename(other / "diffusion_pytorch_model.safetensors")
    with pytest.raises(InputError, match=r"evaluation\.vae: .* has scaling_factor 0\.18215, the model's own 0\.13025"):
        load_other_vae(str(other), tiny_sdxl().vae)


def test_a_merged_lora_comes_back_from_one_file_and_from_a_folder(folder: Path, tmp_path: Path):
    expected = trained(LOCON, tmp_path / "lora.safetensors")
    merged = tiny_sdxl()
    apply_lora(merged, tmp_path / "lora.safetensors").merge()
    one_file = load_single_file(written(tmp_path / "merged.safetensors", pipeline=merged))
    write_pipeline_folder(tmp_path / "merged", merged)
    theirs = StableDiffusionXLPipeline.from_pretrained(tmp_path / "merged", add_watermarker=False)
    for found in (one_file, theirs):
        for ours, other in zip(said(found), expected, strict=True):
            assert float((ours - other).abs().max()) < 1e-5
    for part in ("text_encoder", "text_encoder_2"):
        assert (tmp_path / "merged" / part.replace("text_encoder", "tokenizer") / "merges.txt").is_file()
    assert (
        json.loads((tmp_path / "merged" / "model_index.json").read_text("utf-8"))["_class_name"] == "StableDiffusionXLPipeline"
    )


def test_another_structure_has_no_single_file():
    pipeline = tiny_sdxl()
    pipeline.unet.register_to_config(transformer_layers_per_block=(1, 2, 2))
    with pytest.raises(
        ValueError, match=r"only the architectures of Stable Diffusion 1\.x and XL, block by block, have a single-file form"
    ):
        original_tensors(pipeline)
