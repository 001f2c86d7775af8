"""`accelerate launch` with two CPU processes (gloo): one MLflow run, and the training of one process with the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from fashion_ml.reports.stargan_log import read_epochs
from tests.runs.command import fashion_ml
from tests.unit.training.setup import write_images

SETTINGS = [
    *("--steps", "5", "--rank", "4", "--seed", "3", "--no-evaluate", "--log_every", "2", "--save_every_n_steps", "2"),
    *("--validation_split", "0.1", "--validate_every_n_steps", "2", "--gradient_accumulation_steps", "2"),
]
TEXTS = {"embedded": {"lora_te"}, "sdxl": {"lora_te1", "lora_te2"}}
"""What the names of the text encoders' modules begin with."""
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "fashion_ml"]
"""What `accelerate launch` runs on several GPUs; on CPUs it starts one process only."""


def test_processes_share_gradients_once_a_step_and_stop_behind_the_same_one(workdir: Path):
    """Three batches a step, and one of the processes is asked to stop at its third step. They wait for each other for a day."""
    write_images(workdir / "images", count=6, repeats=1)
    command = [sys.executable, *LAUNCH[:-2], "-m", "tests.full.sharing", str(workdir)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(command, cwd=workdir, env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        found = json.loads((workdir / f"{rank}.json").read_text())
        assert found.pop("gradients")[1:] == [1, 1, 1]  # at the first step torch may yet be choosing its buckets
        assert found == {"stopped": 4, "raised": True, "unused": False, "timeout": 86400.0, "backend": "gloo"}
    states = list((workdir / "out").glob("lora-step*.safetensors"))
    assert [path.stem for path in states] == ["lora-step00000004"]


@pytest.mark.parametrize("base", ["embedded", "sdxl"])
def test_two_processes_train_as_one_with_the_same_global_batch(base: str, workdir: Path, request: pytest.FixtureRequest):
    """With all text encoders; of SDXL's first one the last layer is never read, so that its LoRA gets no gradient.

    Not bit for bit: one sum over four images is two sums over two, added, and rounded otherwise."""
    uri = os.environ["MLFLOW_TRACKING_URI"]
    where = base if base == "embedded" else str(request.getfixturevalue(base))
    given = ["train", "lora", *SETTINGS, "--config", "experiments/lora/embedded.yaml", "--base", where, "--train_text_encoder"]
    one = fashion_ml(*given, "--train_batch_size", "4", "--output-dir", "one", cwd=workdir, uri=uri)
    assert one.returncode == 0, one.stderr
    command = [sys.executable, *LAUNCH, *given, "--train_batch_size", "2", "--output-dir", "two"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    two = subprocess.run(command, cwd=workdir, env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert two.returncode == 0, two.stderr

    client = MlflowClient(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], order_by=["attributes.start_time"])
    assert len(runs) == 2
    assert {run.info.status for run in runs} == {"FINISHED"}
    single, double = (client.get_metric_history(run.info.run_id, "total_loss") for run in runs)
    assert [point.step for point in double] == [1, 2, 3, 4, 5]
    assert [point.value for point in double] == pytest.approx([point.value for point in single], rel=1e-5)
    first, second = (load_file(workdir / folder / "lora.safetensors") for folder in ("one", "two"))
    assert {name.partition("_text_model")[0] for name in first if name.startswith("lora_te")} == TEXTS[base]
    assert first.keys() == second.keys()
    apart = max((first[name] - second[name]).abs().max().item() for name in first)
    assert apart <= 1e-6
    assert max(one.abs().max().item() for name, one in first.items() if "lora_up" in name) > 1e-3


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
