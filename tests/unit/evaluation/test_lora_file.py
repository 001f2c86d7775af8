"""A LoRA file from anywhere is measured as it is now, whatever an earlier evaluation left in the same folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fashion_ml.evaluation.lora_file import evaluate_lora

pytestmark = pytest.mark.usefixtures("blank_figures")

QUERY = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
FEW = {"num_inference_steps": 1, "max_references": 2, "images_per_reference": 1, "extra_metrics": [], "resamples": 20}


def factors() -> tuple[torch.Tensor, torch.Tensor]:
    """Up and down of to_q (128 to 128)."""
    draw = torch.Generator().manual_seed(0)
    return torch.randn(128, 2, generator=draw), torch.randn(2, 128, generator=draw)


def losses(file: Path, folder: Path) -> list[float]:
    return evaluate_lora(file, folder=folder, **FEW).table["visual_loss"].tolist()


def test_another_alpha_beside_the_tensors_makes_other_images(tmp_path: Path):
    """PEFT's alpha is in adapter_config.json, diffusers' in the metadata: the tensors, and so kohya's hash, are the same."""
    up, down = factors()
    peft = tmp_path / "adapter_model.safetensors"
    save_file({f"base_model.model.{QUERY}.lora_B.weight": up, f"base_model.model.{QUERY}.lora_A.weight": down}, peft)
    diffusers, names = (
        tmp_path / "pytorch_lora_weights.safetensors",
        (f"unet.{QUERY}.lora_B.weight", f"unet.{QUERY}.lora_A.weight"),
    )
    found: dict[float, list[list[float]]] = {}
    for alpha in (2.0, 16.0):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": alpha}), encoding="utf-8")
        told = {"lora_adapter_metadata": json.dumps({"unet.r": 2, "unet.lora_alpha": alpha})}
        save_file(dict(zip(names, (up, down), strict=True)), diffusers, told)
        places = (peft, "peft"), (peft, f"peft alone {alpha}"), (diffusers, "diffusers")
        found[alpha] = [losses(file, tmp_path / place) for file, place in places]
    for values in found.values():
        assert values[0] == values[1] == values[2]
    assert found[2.0][0] != found[16.0][0]


def test_what_a_file_does_not_say_and_what_does_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """The default, 512 pixels, is that of Stable Diffusion; the embedded base draws 64."""
    caplog.set_level("INFO")
    up, down = factors()
    file = tmp_path / "look.safetensors"
    save_file({f"unet.{QUERY}.lora.up.weight": up, f"unet.{QUERY}.lora.down.weight": down}, file)
    assert evaluate_lora(file, folder=tmp_path / "a", **FEW).facts["sizes"] == ["64x64"]
    assert "look.safetensors does not say at which square size it was trained; images are of 64 pixels" in caplog.text
    unguided = {"negative_prompt": "ugly", "guidance_scale": 1}
    assert evaluate_lora(file, folder=tmp_path / "b", resolution=32, **unguided, **FEW).facts["sizes"] == ["32x32"]
    assert "evaluation.negative_prompt: does nothing with evaluation.guidance_scale 1" in caplog.text


def test_files_that_programs_call_alike_are_told_apart_by_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And a name that MLflow would not give back is none that a file may not have."""
    monkeypatch.chdir(tmp_path)
    up, down = factors()
    tensors = {f"unet.{QUERY}.lora.up.weight": up, f"unet.{QUERY}.lora.down.weight": down}
    for file in ("one/pytorch_lora_weights.safetensors", "two/pytorch_lora_weights.safetensors", "100% #silk.safetensors"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        save_file(tensors, tmp_path / file)
        evaluate_lora(file, **FEW)
    assert {path.name for path in (tmp_path / "outputs" / "evaluations").iterdir()} == {"one", "two", "100% #silk"}
