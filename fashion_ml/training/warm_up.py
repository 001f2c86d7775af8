"""What compiles or records does so before the clock of a training starts, once for each size of a batch; no number changes with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from fashion_ml.data.lora_batches import StepInputs
from fashion_ml.runtime.console import bar
from fashion_ml.runtime.language import tr
from fashion_ml.training.next_batch import batches_of
from fashion_ml.training.torch_private import room_for_graphs
from fashion_ml.training.train_state import TrainState

_GRAPHS_OF_A_SIZE = 4
"""Graphs that one function may need for one size of a batch, such as with gradients and without."""


def warm_up(what: str, work: Mapping[str, Callable[[], Any]], state: TrainState, device: torch.device) -> None:
    """Do each piece of work once, under a bar that says `what` and its name. Its time is not the training's, nor are its random numbers; what
    it leaves, such as gradients, it takes away itself."""
    if not work:
        return
    began = time.monotonic()
    room_for_graphs(_GRAPHS_OF_A_SIZE * len(work))
    with bar(what, len(work)) as progress, torch.random.fork_rng([device] if device.type == "cuda" else []):
        for name, one in work.items():
            one()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            progress.advance(note=name)
    state.began += time.monotonic() - began


def warm_up_lora(lora: Any, inputs: StepInputs, state: TrainState) -> None:
    """One forward and backward pass of a LoRA for each size of the batches to come, where training.compile is not no."""
    training, device = lora.config.training, lora.accelerator.device
    if training.compile == "no":
        return

    def once(step: int, number: int) -> None:
        lora.backward(batches_of(inputs, training, device, step)[number])
        lora.held.taken()
        lora.optimizer.zero_grad(set_to_none=training.compile != "cudagraphs")  # recorded gradients stay where they are

    sizes = {
        size: partial(once, *place) for size, place in _first_batches(inputs, state.step, training.max_train_steps).items()
    }
    warm_up(tr("record steps") if training.compile == "cudagraphs" else tr("compile"), sizes, state, device)


def _first_batches(inputs: StepInputs, done: int, last: int) -> dict[str, tuple[int, int]]:
    """Of each kind of batch, by its size in latent cells, the first step to come that has one, and the batch's number in the step."""
    most = len({(size, inputs.holds) for size in inputs.images.sizes} | {(size, False) for size in inputs.prior_sizes})
    found: dict[str, tuple[int, int]] = {}
    for step in range(done + 1, min(last, done + 2 * inputs.plan.steps_per_epoch) + 1):  # one epoch whole, wherever this one is
        for number, (height, width, holds) in enumerate(inputs.kinds(step)):
            beside = tr(", with the output that is held on to") if holds else ""
            found.setdefault(
                tr("latents of {height} x {width}{beside}", height=height, width=width, beside=beside), (step, number)
            )
        if len(found) == most:
            break
    return found
