"""What a LoRA training's loop costs where the UNet costs nothing: `python -m benchmarks.loop_overhead [--steps N]`.

The loop of `train_lora` as it is, on one thread, with a UNet that is one small linear layer with a LoRA: drawing, caches, copies, the loss,
clipping, AdamW, rates, log and stop flag are what a step takes. Latents are 4 x 64 x 64 and embeddings 77 x 768, as at 512 px on Stable
Diffusion 1.5. The figure is the median over windows of steps.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.loaders import PeftAdapterMixin

from benchmarks.lora_step import write_photos
from benchmarks.results import Row, report
from fashion_ml.config import validate
from fashion_ml.data.encoded_images import EncodedCaptions
from fashion_ml.data.images import read_training_folder
from fashion_ml.data.tensor_cache import TensorCache
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.training.lora_inputs import prepare_inputs
from fashion_ml.training.lora_loop import Hooks, train_lora

_WINDOW = 50
_WARM_UP = 50
_RESOLUTION = 256
"""Pixels; the embedded VAE makes 64 x 64 cells of it."""


class EmptyUnet(torch.nn.Module, PeftAdapterMixin):  # type: ignore[misc]
    """Its prediction is what it is given, and a linear layer's answer to one cell of it."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, self.dtype = config, torch.float32
        self.mid = torch.nn.Module()
        self.mid.transformer_blocks = torch.nn.ModuleDict({"attn1": torch.nn.ModuleDict({"to_q": torch.nn.Linear(4, 4)})})

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, text: torch.Tensor) -> Any:
        """(B, 4, h, w) -> `.sample` of that shape."""
        return SimpleNamespace(sample=noisy + self.mid.transformer_blocks["attn1"]["to_q"](noisy[:, :, 0, 0])[:, :, None, None])


class _RandomCaptions(EncodedCaptions):
    """Embeddings of Stable Diffusion 1.5's size without its text encoder, kept as others are."""

    def _encode(self, caption: str) -> torch.Tensor:
        return torch.randn(77, 768)


def seconds_of_steps(batch: int, steps: int) -> list[float]:
    """Wall seconds of a step in the mean of each window."""
    torch.set_num_threads(1)
    pipeline, accelerator = load_pipeline("embedded"), Accelerator(cpu=True)
    with tempfile.TemporaryDirectory() as name:
        folder = write_photos(Path(name) / "images", 4 * batch, _RESOLUTION)
        training = {"max_train_steps": _WARM_UP + steps, "train_batch_size": batch, "log_every": 10, "save_state": False}
        tree = {
            "data": {"train_data_dir": str(folder), "resolution": _RESOLUTION},
            "network": {"rank": 4},
            "training": training,
        }
        config, items = validate(tree), read_training_folder(folder)
        inputs, _ = prepare_inputs(config, pipeline, items, [], accelerator)
        inputs._text_of = _RandomCaptions(pipeline, TensorCache(), "random").embeddings
        pipeline.register_modules(unet=EmptyUnet(pipeline.unet.config))
        times: list[float] = []
        hooks = Hooks(rows=lambda rows: times.extend(row["time"] for row in rows))
        train_lora(config, pipeline, inputs, None, Path(name) / "out", hooks, accelerator)
    ends = times[_WARM_UP - 1 :: _WINDOW]
    return [(after - before) / _WINDOW for before, after in pairwise(ends)]


def main() -> None:
    """Print both medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    steps = parser.parse_args().steps
    rows = []
    for batch in (1, 8):
        found = seconds_of_steps(batch, steps)
        what = f"a LoRA training's step with an empty UNet, one thread, 4 x 64 x 64, batch {batch}"
        rows.append(Row(what, f"{1000 * statistics.median(found):.2f} ms ({1000 * min(found):.2f} to {1000 * max(found):.2f})"))
    report(rows)


if __name__ == "__main__":
    main()
