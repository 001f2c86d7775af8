"""Stable Diffusion XL at its real size, with random weights: minutes, 7 GB of disk and 22 GiB of memory, so not part of `make test`."""

from __future__ import annotations

import json
import multiprocessing
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file, save_file

from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.models.base_folder import empty_model
from fashion_ml.models.families.known import named
from fashion_ml.models.original_checkpoint import original_tensors
from fashion_ml.models.single_file import CONFIGS, clip_tokenizer
from tests.unit.models.test_sdxl_lora_files import CONVOLUTIONS, LAYOUT

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
MEASURED = """
import resource, subprocess, sys
code = subprocess.call([sys.executable, "-m", "fashion_ml", *sys.argv[1:]])
print("PEAK", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def sdxl_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of the original layout in half precision, as most checkpoints are; what it takes to write goes with its process."""
    path = tmp_path_factory.mktemp("sdxl") / "xl.safetensors"
    child = multiprocessing.get_context("spawn").Process(target=write_sdxl, args=(path,))
    child.start()
    child.join()
    assert child.exitcode == 0
    return path


def write_sdxl(path: Path) -> None:
    parts = {part: of_size(part) for part in PARTS}
    parts |= {"tokenizer": clip_tokenizer("sd1"), "tokenizer_2": clip_tokenizer("sd2")}
    scheduler = DDIMScheduler.from_config(DDIMScheduler.load_config(CONFIGS / "sdxl" / "scheduler"))
    save_file(original_tensors(named("sdxl").made({**parts, "scheduler": scheduler})), path)


def of_size(part: str) -> torch.nn.Module:
    """A model whose weights are never larger than in half precision, each as small as its inputs are many."""
    config = json.loads((CONFIGS / "sdxl" / part / "config.json").read_bytes())
    model: torch.nn.Module = empty_model(part, config, part).half().to_empty(device="cpu")
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                most = (3 / weight[0].numel()) ** 0.5
                weight.uniform_(-most, most, generator=draws)
            else:
                weight.fill_(float("norm" in name and name.endswith("weight")))
    return model


@pytest.mark.timeout(3000)
def test_a_step_in_bf16_gives_kohyas_modules_within_22_gib(sdxl_file: Path, workdir: Path):
    """By the experiment that a base of SDXL has without --config, at 256 pixels."""
    place = workdir / "photos" / "1_dress"
    place.mkdir(parents=True)
    for index, garment in enumerate(sample_garments(2, seed=3)):
        render(garment, 256).save(place / f"{index}.png")
        (place / f"{index}.txt").write_text(garment.caption(), encoding="utf-8")
    given = ["train", "lora", "--base", str(sdxl_file), "--train_data_dir", "photos", "--resolution", "256", "--steps", "1"]
    given += ["--mixed_precision", "bf16", "--no-evaluate", "--gradient_accumulation_steps", "1", "--lr_warmup_steps", "0"]
    given += ["--train_text_encoder", "--output-dir", "out", "--set", "training.sample_every=null"]
    result = subprocess.run([sys.executable, "-c", MEASURED, *given], cwd=workdir, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    peak = int(result.stdout.split("PEAK ")[1])
    assert peak <= 22 * 2**30, f"{peak / 2**30:.1f} GiB"

    tensors = load_file(next((workdir / "out").glob("*.safetensors")))
    theirs = {line.split()[0] for line in LAYOUT.read_text("utf-8").splitlines()}
    assert {name.partition(".")[0] for name in tensors} == {one for one in theirs if not re.search(CONVOLUTIONS, one)}
    for prefix in ("lora_unet_", "lora_te1_", "lora_te2_"):
        ups = [one.abs().max() for name, one in tensors.items() if name.startswith(prefix) and "lora_up" in name]
        assert 0 < max(ups) < 1.01e-4  # AdamW's first step is its rate
