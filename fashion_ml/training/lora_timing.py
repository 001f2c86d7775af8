"""How long steps of a LoRA training take, on the models of one that leaves nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from fashion_ml.config import LoraExperiment
from fashion_ml.data.lora_batches import StepInputs
from fashion_ml.runtime.float32 import exact_float32
from fashion_ml.training.lora_loop import _Lora
from fashion_ml.training.next_batch import batches_of


def timed_steps(
    config: LoraExperiment, pipeline: Any, inputs: StepInputs, accelerator: Any, steps: Iterable[int]
) -> Iterator[tuple[int, float]]:
    """Train on what these steps see, in this order, and give each with its wall seconds; nothing is saved."""
    lora = _Lora(config, pipeline, accelerator)
    for step in steps:
        started = time.monotonic()
        with exact_float32(tf32=config.training.tf32):  # as a training does
            for batch in batches_of(inputs, config.training, accelerator.device, step):
                lora.backward(batch)
            lora.set_rates(step)
            lora.clip_and_step().item()
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize(accelerator.device)
        yield step, time.monotonic() - started
