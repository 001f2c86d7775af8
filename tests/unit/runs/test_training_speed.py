"""Speed, memory and attention of a training are on its MLflow run, of both trainers; what was not measured is absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

import fashion_ml as fm
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.runs.training_speed import begin_peak, log_speed
from fashion_ml.training.lora_models import attention_of
from fashion_ml.training.torch_private import sdpa_backend
from tests.unit.training.setup import experiment, write_images

pytestmark = pytest.mark.usefixtures("blank_figures")

GPU = torch.device("cuda", 0)


class Run:
    def __init__(self) -> None:
        self.metrics, self.params = dict[str, float](), dict[str, Any]()

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.metrics |= {f"{name} at {step}": value for name, value in metrics.items()}

    def log_params(self, params: dict[str, Any]) -> None:
        self.params |= params


def test_steps_and_images_by_the_second_are_of_the_whole_training_and_memory_is_that_of_a_gpu(monkeypatch: pytest.MonkeyPatch):
    """100 steps of 4 images in 20 seconds: 5 steps and 20 images a second. 3 GiB since the peak was begun anew."""
    begun: list[Any] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", begun.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 3 * 2**30)
    on_gpu, on_cpu = Run(), Run()
    for run, device in ((on_gpu, GPU), (on_cpu, torch.device("cpu"))):
        begin_peak(device)
        log_speed(run, device, steps=100, seconds=20.0, images=4, at=7, attention="flash_attention")  # type: ignore[arg-type]
    speed = {"steps_per_second at 7": 5.0, "images_per_second at 7": 20.0}
    assert on_gpu.metrics == {**speed, "gpu_memory_peak at 7": 3.0}
    assert on_cpu.metrics == speed
    assert on_gpu.params == {"sdpa_backend": "flash_attention"}
    assert begun == [GPU]


def test_without_a_run_or_time_nothing_is_said():
    run = Run()
    log_speed(None, GPU, steps=1, seconds=1.0, images=1, at=1)
    log_speed(run, torch.device("cpu"), steps=0, seconds=0.0, images=1, at=1)
    assert not run.metrics


def test_the_kernels_of_attention_are_those_that_torch_takes(tmp_path: Path):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    unet, cpu = load_pipeline("embedded").unet, torch.device("cpu")
    found = attention_of(experiment(tmp_path), unet, (2, 4, 16, 16), cpu)
    assert found == sdpa_backend((2, 4, 256, 16), torch.float32, cpu) == "flash_attention"
    with sdpa_kernel(SDPBackend.MATH):
        assert sdpa_backend((2, 4, 256, 16), torch.float32, cpu) == "math"
    assert attention_of(experiment(tmp_path), torch.nn.Linear(2, 2), (2, 4, 16, 16), cpu) is None


def logged(run_id: str) -> Any:
    return MlflowClient().get_run(run_id).data


def test_a_lora_has_them_on_its_run(workdir: Path):
    write_images(workdir / "images")
    config = experiment(workdir / "images", evaluation={"enabled": False})
    outcome = fm.train_lora(config, folder=workdir / "out", track=True)
    data = logged(outcome.run_id)
    speed = data.metrics["steps_per_second"]
    assert speed == pytest.approx(4 / outcome.trained.seconds)
    assert data.metrics["images_per_second"] == pytest.approx(speed)  # three images twice, one at a time
    assert data.params["sdpa_backend"] == "flash_attention"
    assert "gpu_memory_peak" not in data.metrics


def test_a_stargan_has_them_on_its_run(workdir: Path):
    for domain in "ab":
        (workdir / "latents" / domain).mkdir(parents=True)
        for index in range(6):
            torch.save(torch.randn(4, 8, 8), workdir / "latents" / domain / f"{index}.pt")
    sizes = {"base_dim": 8, "n_res_blocks": 2, "d_layers": 1, "style_dim": 4, "mapping_hidden_dim": 8}
    tree = {
        "data": {"latents_dir": str(workdir / "latents"), "validation_split": 0.2},
        "network": sizes,
        "training": {"epochs": 2, "batch_size": 4},
        "evaluation": {"enabled": False},
    }
    outcome = fm.train_stargan(tree, folder=workdir / "out", track=True)
    data = logged(outcome.run_id)
    speed = data.metrics["steps_per_second"]
    assert speed == pytest.approx(outcome.trained.steps / outcome.trained.seconds)
    assert data.metrics["images_per_second"] == pytest.approx(4 * speed)
    assert not {"gpu_memory_peak", "sdpa_backend"} & {*data.metrics, *data.params}
