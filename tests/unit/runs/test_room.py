"""What does not fit into a CPU's memory is refused before it is taken, by every command that would take it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from PIL import Image

from fashion_ml.config import load_config
from fashion_ml.errors import InputError
from fashion_ml.models.lora import LoraSpec, add_lora, weight_count
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.models.stargan import NetworkSizes, make_networks, weight_counts
from fashion_ml.runs import room
from fashion_ml.runs.dry_run import dry_run_lora, dry_run_stargan
from fashion_ml.runs.lora import run_lora
from fashion_ml.runs.stargan import run_stargan
from fashion_ml.training import stargan_loop
from tests.runs.command import fashion_ml
from tests.unit.training.setup import write_images

GIB = 1 << 30


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Gives the machine so many GiB."""
    return lambda gib: monkeypatch.setattr(
        psutil, "virtual_memory", lambda: SimpleNamespace(total=gib * GIB, available=gib * GIB)
    )


@pytest.mark.parametrize("command", [dry_run_lora, run_lora], ids=["dry run", "training"])
@pytest.mark.parametrize(
    ("gib", "resolution", "batch", "says"),
    [
        (
            1,
            2048,
            1,
            "data.resolution: encoding an image of 2048 x 2048 pixels needs some 2.1 GiB, and this machine has 1.0 GiB; use less",
        ),
        (
            3,
            2048,
            1,
            "data.resolution: a step with 1 image of 2048 x 2048 pixels needs some 12.8 GiB, and this machine has 3.0 GiB",
        ),
        (
            2,
            512,
            4,
            "training.train_batch_size: a step with 4 images of 512 x 512 pixels needs some 3.2 GiB, and this machine has 2.0 GiB",
        ),
    ],
)
def test_a_lora_that_cannot_fit_is_refused(
    workdir: Path,
    small: Callable[[float], None],
    command: Callable[..., object],
    gib: int,
    resolution: int,
    batch: int,
    says: str,
):
    write_images(workdir / "images", 4)
    settings = {
        "train_data_dir": str(workdir / "images"),
        "base": "embedded",
        "resolution": resolution,
        "evaluation.enabled": False,
    }
    config = load_config({**settings, "train_batch_size": batch, "max_train_steps": 1})
    small(gib)
    with pytest.raises(InputError) as error:
        command(config)
    assert says in str(error.value)
    assert not (workdir / "outputs").exists(), "refused before the run begins"


@pytest.mark.parametrize("command", [dry_run_stargan, run_stargan], ids=["dry run", "training"])
def test_a_stargan_that_cannot_fit_is_refused(workdir: Path, small: Callable[[float], None], command: Callable[..., object]):
    for domain in ("dotted", "plain"):
        (workdir / "latents" / domain).mkdir(parents=True)
        for index in range(3):
            torch.save(torch.randn(4, 16, 16), workdir / "latents" / domain / f"{index}.pt")
    given = {"data.latents_dir": "latents", "model.vae": "embedded", "batch_size": 256, "evaluation.enabled": False}
    small(0.5)
    with pytest.raises(InputError, match=r"training\.batch_size: a step with 256 latents 4 x 16 x 16 needs some 8\.9 GiB, and"):
        command(load_config(given, kind="stargan"))
    assert not (workdir / "outputs").exists()


@pytest.mark.parametrize("command", [dry_run_stargan, run_stargan], ids=["dry run", "training"])
@pytest.mark.parametrize(
    ("network", "says"),
    [
        ({"base_dim": 8192}, "network.base_dim: training 20.55 billion weights needs some"),
        (
            {"base_dim": 16, "mapping_hidden_dim": 8192, "mapping_shared_layers": 64},
            "network.mapping_hidden_dim: training 4.36 billion weights needs some",
        ),
    ],
    ids=["base_dim", "mapping"],
)
def test_networks_that_cannot_fit_are_refused_before_they_are_made(
    workdir: Path,
    small: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[..., object],
    network: dict[str, int],
    says: str,
):
    for domain in ("dotted", "plain"):
        (workdir / "latents" / domain).mkdir(parents=True)
        for index in range(3):
            torch.save(torch.randn(4, 16, 16), workdir / "latents" / domain / f"{index}.pt")
    monkeypatch.setattr(stargan_loop, "make_networks", lambda *_: pytest.fail("they were made"))
    given = {"data.latents_dir": "latents", "model.vae": "embedded", "evaluation.enabled": False}
    small(16)
    with pytest.raises(InputError) as error:
        command(load_config({**given, **{f"network.{name}": value for name, value in network.items()}}, kind="stargan"))
    assert says in str(error.value)
    assert not (workdir / "outputs").exists()


@pytest.mark.parametrize("algo", ["lora", "loha"])
def test_the_weights_that_are_counted_are_those_that_train(algo: str):
    pipeline = load_pipeline("embedded")
    spec = LoraSpec(rank=3, alpha=3.0, conv_rank=2, train_text_encoder=True, algo=algo)
    counted = weight_count(pipeline.unet, pipeline.text_encoder, spec)
    made = add_lora(pipeline.unet, pipeline.text_encoder, spec, 0)
    assert counted == sum(one.numel() for one in (*made.unet, *made.text_encoder))
    sizes = NetworkSizes(base_dim=16, n_res_blocks=2, spectral_norm=True, discriminator="patch")
    assert weight_counts(sizes) == make_networks(sizes, 0).parameter_counts()


def test_a_rank_that_cannot_fit_is_refused(workdir: Path, small: Callable[[float], None]):
    write_images(workdir / "images", 2)
    config = load_config({"train_data_dir": str(workdir / "images"), "base": "embedded", "rank": 4096, "steps": 1})
    small(0.5)
    with pytest.raises(
        InputError, match=r"^network\.rank: training 0\.\d\d billion weights needs some \d+\.\d GiB, and this machine"
    ):
        dry_run_lora(config)


def test_an_image_whose_encoding_cannot_fit_is_refused(workdir: Path, small: Callable[[float], None]):
    for domain in ("a", "b"):
        (workdir / "images" / domain).mkdir(parents=True)
        Image.new("RGB", (64, 64), "red").save(workdir / "images" / domain / "x.png")
    small(1)
    done = fashion_ml("encode", "images", "latents", "--size", "2048", cwd=workdir, uri="sqlite:///mlflow.db")
    assert done.returncode == 2
    assert (
        "--size: encoding an image of 2048 x 2048 pixels needs some 2.1 GiB, and this machine has 1.0 GiB; use less"
        in done.stderr
    )
    assert not (workdir / "latents").exists()


def test_a_small_batch_and_one_for_a_gpu_are_not_counted(small: Callable[[float], None]):
    pipeline = load_pipeline("embedded")
    small(0.05)
    items = [SimpleNamespace(size=(4096, 4096), repeats=1)]
    for resolution, device in ((512, "cpu"), (4096, "cuda")):
        config = load_config({"train_data_dir": "embedded", "base": "embedded", "resolution": resolution})
        room.check_lora_room(config, pipeline, items, torch.device(device))  # type: ignore[arg-type]
