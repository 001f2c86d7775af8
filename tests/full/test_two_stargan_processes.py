"""Two CPU processes (gloo) that train a StarGAN; tests/runs/test_two_processes.py has the LoRA's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fashion_ml.reports.stargan_log import read_epochs
from tests.runs.command import fashion_ml
from tests.runs.test_two_processes import LAUNCH

GAN = [
    *("train", "stargan", "--base_dim", "8", "--n_res_blocks", "2", "--d_layers", "1", "--mapping_hidden_dim", "16"),
    *("--epochs", "1", "--epoch_size", "8", "--r1_interval", "2", "--learning_rate", "1e-3"),
    *("--no-evaluate", "--latents-dir", "latents", "--vae", "embedded"),
]


def test_two_stargan_processes_train_as_one_through_the_gradient_penalty(workdir: Path):
    """Two steps, the second with R1. (Adam without momentum makes whole steps of rounding noise, so that longer runs drift apart.)"""
    draw = torch.Generator().manual_seed(0)
    for domain in ("a", "b"):
        (workdir / "latents" / domain).mkdir(parents=True)
        for index in range(8):
            torch.save(torch.randn(4, 8, 8, generator=draw), workdir / "latents" / domain / f"{index}.pt")
    one = fashion_ml(*GAN, "--batch_size", "4", "--output-dir", "one", cwd=workdir, uri=os.environ["MLFLOW_TRACKING_URI"])
    assert one.returncode == 0, one.stderr
    command = [sys.executable, *LAUNCH, *GAN, "--batch_size", "2", "--output-dir", "two"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    two = subprocess.run(command, cwd=workdir, env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert two.returncode == 0, two.stderr
    first, second = (load_file(workdir / folder / "stargan.safetensors") for folder in ("one", "two"))
    moved = max((first[name] - first[name.removeprefix("ema.")]).abs().max() for name in first if name.startswith("ema."))
    assert moved > 1e-4
    for name in (
        "generator.to_latent.weight",
        "style_encoder.heads.weight",
        "discriminator.heads.weight",
        "mapping.shared.0.weight",
    ):
        assert (first[name] - second[name]).abs().mean() <= 1e-5, name
    logs = [read_epochs(workdir / folder / "training_logs" / "training_log.jsonl") for folder in ("one", "two")]
    for mine, other in zip(*logs, strict=True):
        assert other == pytest.approx(mine, rel=1e-5)
