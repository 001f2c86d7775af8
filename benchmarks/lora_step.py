"""What the training loop costs over the bare UNet: `python -m benchmarks.lora_step [--rounds N --steps N --batch N]`.

Floor: forward and backward of the same UNet with the same LoRA on tensors that are already there. Ours: a whole step of
`train_lora`, with drawing, clipping, AdamW and logging. The two take turns; the figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from fashion_ml.config import validate
from fashion_ml.data.captioned_images import CaptionedImage
from fashion_ml.models.lora import add_lora
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.progress import say
from fashion_ml.training.lora import CachedImages, train_lora

WARM_UP = 3


def floor_seconds(batch: int, steps: int, rank: int) -> float:
    """Seconds of one forward and backward pass."""
    pipeline = load_pipeline("embedded")
    parameters = add_lora(pipeline.unet, rank=rank, alpha=rank, seed=0)
    x, t, text = torch.randn(batch, 4, 16, 16), torch.randint(0, 1000, (batch,)), torch.randn(batch, 32, 128)
    start = 0.0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            start = time.perf_counter()
        pipeline.unet(x, t, text).sample.square().mean().backward()
        for parameter in parameters:
            parameter.grad = None
    return (time.perf_counter() - start) / steps


def our_seconds(batch: int, steps: int, rank: int) -> float:
    """Seconds of one training step, between the log calls of a real training."""
    config = validate(
        {
            "data": {"train_data_dir": "-", "resolution": 64},
            "network": {"rank": rank},
            "training": {"max_train_steps": WARM_UP + steps, "train_batch_size": batch, "log_every": 1},
        }
    )
    items = [CaptionedImage(Path(f"{index}.png"), "a dress", 1) for index in range(4 * batch)]
    data = CachedImages(
        torch.randn(len(items), 4, 16, 16), torch.ones(len(items), 4, 16, 16), torch.randn(1, 32, 128), (0,) * len(items)
    )
    stamps: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        train_lora(config, load_pipeline("embedded"), items, data, Path(folder), lambda _: stamps.append(time.perf_counter()))
    return (stamps[-1] - stamps[WARM_UP - 1]) / steps


def main() -> None:
    """Print a line for each round and the median."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rounds", 5), ("steps", 20), ("batch", 4), ("rank", 16)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    sizes = (arguments.batch, arguments.steps, arguments.rank)
    ratios = []
    for number in range(1, arguments.rounds + 1):
        floor, ours = floor_seconds(*sizes), our_seconds(*sizes)
        ratios.append(ours / floor)
        say(f"round {number}: floor {floor * 1000:.1f} ms, ours {ours * 1000:.1f} ms, ratio {ratios[-1]:.3f}")
    say(
        f"median ratio {statistics.median(ratios):.3f} (embedded base, batch {sizes[0]}, rank {sizes[2]}, {torch.get_num_threads()} threads)"
    )


if __name__ == "__main__":
    main()
