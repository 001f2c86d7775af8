"""What the training loop costs over the bare UNet: `python -m benchmarks.lora_step [--size embedded|sd15] [--steps N] [--batch N]`.

Floor: forward and backward of the same UNet with the same LoRA, on tensors that are already there. Ours: a whole step of
`train_lora`, with drawing, loss, clipping, AdamW and the loss log. After each step of ours comes one of the floor, on the same model
in the same process, so that both see the same machine; the figure is the ratio of the medians. `--size sd15` is Stable Diffusion
1.5's architecture with random weights (6 GiB of memory).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image

from benchmarks.results import Row, report
from fashion_ml.config import validate
from fashion_ml.data.images import read_training_folder
from fashion_ml.data.lora_batches import Batch, StepInputs
from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.models.single_file import CONFIGS, clip_tokenizer
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.training.lora_inputs import prepare_inputs
from fashion_ml.training.lora_loop import Hooks, train_lora

WARM_UP = 2
RESOLUTION = {"embedded": 64, "sd15": 256}
KOHYA = {"feed_forward": True, "projections": True}


def write_photos(folder: Path, count: int, size: int) -> Path:
    """`count` captioned garments in kohya's layout."""
    place = folder / "10_garment"
    place.mkdir(parents=True)
    for index, garment in enumerate(sample_garments(count, seed=11)):
        drawn = render(garment, min(size, 256))  # larger ones are enlarged: rendering takes long
        drawn.resize((size, size), Image.Resampling.BICUBIC).save(place / f"{index:03d}.jpg", quality=90)
        (place / f"{index:03d}.txt").write_text(garment.caption(), encoding="utf-8")
    return folder


def random_sd15() -> Any:
    """A pipeline of Stable Diffusion 1.5's architecture with random weights, float32, frozen."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    configs = CONFIGS / "sd1"
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_config(AutoencoderKL.load_config(configs / "vae")),
        unet=UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(configs / "unet")),
        text_encoder=CLIPTextModel(CLIPTextConfig.from_pretrained(configs / "text_encoder")),
        tokenizer=clip_tokenizer("sd1"),
        scheduler=DDIMScheduler.from_config(DDIMScheduler.load_config(configs / "scheduler")),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for module in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
        module.requires_grad_(False).eval()
    return pipeline


class _TimedInputs(StepInputs):
    """Counts the seconds that a step waits for its data."""

    waited: float = 0.0

    def batches(self, step: int) -> Iterator[Batch]:
        start = time.perf_counter()
        made = list(super().batches(step))
        self.waited = time.perf_counter() - start
        return iter(made)


def measure(size: str, steps: int, batch: int, rank: int, targets: str) -> dict[str, list[float]]:
    """Seconds of each step of ours and of the floor, and of waiting for data, after the warm-up."""
    pipeline = load_pipeline("embedded") if size == "embedded" else random_sd15()
    seconds: dict[str, list[float]] = {"ours": [], "floor": [], "data": []}
    with tempfile.TemporaryDirectory() as name:
        folder = write_photos(Path(name) / "images", 4 * batch, RESOLUTION[size])
        tree = {
            "data": {"train_data_dir": str(folder), "resolution": RESOLUTION[size]},
            "network": {"rank": rank, **(KOHYA if targets == "kohya" else {})},
            "training": {"max_train_steps": WARM_UP + steps, "train_batch_size": batch, "log_every": 1, "save_state": False},
        }
        config, accelerator = validate(tree), Accelerator()
        inputs, _ = prepare_inputs(config, pipeline, read_training_folder(folder), [], accelerator)
        inputs.__class__ = _TimedInputs
        text = inputs.batches(1).__next__().text.to(accelerator.device)
        device = accelerator.device
        x, t = torch.randn(batch, *inputs.images.latent_shape(0)).to(device), torch.randint(0, 1000, (batch,)).to(device)
        ended = time.perf_counter()

        def after_step(rows: list[dict[str, float]]) -> None:
            nonlocal ended
            counts = rows[-1]["step"] > WARM_UP
            if counts:
                seconds["ours"].append(time.perf_counter() - ended)
                seconds["data"].append(inputs.waited)  # type: ignore[attr-defined]
            start = time.perf_counter()
            pipeline.unet(x, t, text).sample.square().mean().backward()
            if counts:
                seconds["floor"].append(time.perf_counter() - start)
            for parameter in pipeline.unet.parameters():
                parameter.grad = None
            ended = time.perf_counter()

        train_lora(config, pipeline, inputs, None, Path(name) / "out", Hooks(rows=after_step), accelerator)
    return seconds


def main() -> None:
    """Print the medians, their ratio, and the share of a step spent waiting for data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(RESOLUTION), default="embedded")
    parser.add_argument("--targets", choices=("attention", "kohya"), default="attention")
    for name in ("steps", "batch", "rank"):
        parser.add_argument(f"--{name}", type=int, default=None)
    arguments = parser.parse_args()
    small = arguments.size == "embedded"
    steps, batch = arguments.steps or (200 if small else 8), arguments.batch or (4 if small else 1)
    rank = arguments.rank or (16 if small else 32)
    seconds = measure(arguments.size, steps, batch, rank, arguments.targets)
    ours, floor, data = (statistics.median(seconds[name]) for name in ("ours", "floor", "data"))
    ratio = statistics.median(f / o for f, o in zip(seconds["floor"], seconds["ours"], strict=True))
    what = (
        f"LoRA step, {arguments.size}, {RESOLUTION[arguments.size]} px, batch {batch}, rank {rank}, {arguments.targets} targets"
    )
    ours_said = f"{ours * 1000:.1f} ms, {data / ours:.2%} of it waiting for data"
    report([Row(what, ours_said, f"bare UNet with the same LoRA layers {floor * 1000:.1f} ms", ratio)])


if __name__ == "__main__":
    main()
