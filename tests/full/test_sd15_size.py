"""Stable Diffusion 1.5 at its real size, with random weights: minutes and 12 GiB of memory, so not part of `make test`.

The layout is that of a LoRA written by kohya's train_network.py (sd-scripts v0.10, networks.lora, network_dim 32, text encoder and UNet).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.models.kohya_format import read_metadata
from fashion_ml.models.original_checkpoint import original_tensors
from fashion_ml.models.single_file import CONFIGS, clip_tokenizer

LAYOUT = Path(__file__).parent / "kohya_sd15_rank32.txt"
KEYS = Path(__file__).parents[1] / "unit" / "training" / "kohya_metadata_keys.txt"
TARGETS = ["--feed_forward", "--projections", "--train_text_encoder", "--network_dim", "32", "--network_alpha", "1"]


@pytest.fixture(scope="session")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random model of SD 1.5's architecture in half precision: `pipeline/` and `model.safetensors`."""
    folder = tmp_path_factory.mktemp("sd15")
    torch.manual_seed(0)
    configs = CONFIGS / "sd1"
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_config(AutoencoderKL.load_config(configs / "vae")).half(),
        unet=UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(configs / "unet")).half(),
        text_encoder=CLIPTextModel(CLIPTextConfig.from_pretrained(configs / "text_encoder")).half(),
        tokenizer=clip_tokenizer("sd1"),
        scheduler=DDIMScheduler.from_config(DDIMScheduler.load_config(configs / "scheduler")),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "pipeline", variant="fp16")
    save_file(original_tensors(pipeline), folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of three shapes in kohya's layout, or the folder that FASHION_ML_PHOTOS names."""
    if os.environ.get("FASHION_ML_PHOTOS"):
        return Path(os.environ["FASHION_ML_PHOTOS"])
    folder = tmp_path_factory.mktemp("photos") / "lora_train_set"
    (folder / "10_dress").mkdir(parents=True)
    for index, garment in enumerate(sample_garments(6, seed=3)):
        size = [(341, 256), (256, 341), (300, 300)][index % 3]
        render(garment, 256).resize(size).save(folder / "10_dress" / f"{index}.jpg")
        (folder / "10_dress" / f"{index}.txt").write_text(garment.caption(), encoding="utf-8")
    return folder


def trained(workdir: Path, base: Path, photos: Path) -> tuple[Path, int]:
    """Five steps at 256 pixels with kohya's targets; returns the LoRA and the peak memory of the process, bytes."""
    command = [sys.executable, "-m", "fashion_ml", "train", "lora", "--config", "experiment.yaml"]
    (workdir / "experiment.yaml").write_text(json.dumps({"data": {"train_data_dir": str(photos)}}), encoding="utf-8")
    options = ["--base", str(base), "--resolution", "256", "--steps", "5", "--enable_bucket", "--no-evaluate", *TARGETS]
    measured = f"import resource, subprocess, sys; code = subprocess.call({[*command, *options, '--output-dir', 'out']!r}); "
    measured += "print('PEAK', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024); sys.exit(code)"
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    result = subprocess.run(
        [sys.executable, "-c", measured], cwd=workdir, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return workdir / "out" / "lora.safetensors", int(result.stdout.split("PEAK ")[1])


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("form", ["model.safetensors", "pipeline"])
def test_five_steps_give_exactly_kohyas_file_within_12_gib(form: str, sd15: Path, photos: Path, workdir: Path):
    path, peak = trained(workdir, sd15 / form, photos)
    assert peak <= 12 * 2**30, f"{peak / 2**30:.1f} GiB"

    expected: dict[str, tuple[int, ...]] = {}
    for line in LAYOUT.read_text(encoding="utf-8").splitlines():
        module, down, up, alpha = line.split()
        for part, shape in (("lora_down.weight", down), ("lora_up.weight", up), ("alpha", alpha)):
            expected[f"{module}.{part}"] = tuple(int(side) for side in shape.split("x")) if shape != "-" else ()
    tensors = load_file(path)
    assert len(expected) == 792
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == expected
    absent = {"ss_sd_scripts_commit_hash", *(() if form.endswith("tensors") else ("ss_sd_model_hash", "ss_new_sd_model_hash"))}
    assert set(KEYS.read_text(encoding="utf-8").split()) - set(read_metadata(path)) == absent
    assert any(tensor.abs().max() > 0 for name, tensor in tensors.items() if name.startswith("lora_te_") and "lora_up" in name)
    if form == "pipeline":
        pipeline = StableDiffusionPipeline.from_pretrained(
            sd15 / "pipeline", variant="fp16", safety_checker=None, requires_safety_checker=False
        )
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
        loaded = {name for name, _ in pipeline.unet.named_modules() if name.endswith("lora_A")}
        assert (len(loaded), len(pipeline.get_active_adapters())) == (192, 1)
