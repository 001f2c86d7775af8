"""What the next step sees, made on a thread while this one is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch

from fashion_ml.config.lora import Training
from fashion_ml.data.lora_batches import Batch, StepInputs
from fashion_ml.runtime.cores import cores

Made = TypeVar("Made")


def batches_of(inputs: StepInputs, training: Training, device: torch.device, step: int) -> list[Batch]:
    """What a LoRA's step sees, of one shape a bucket where steps are compiled or recorded.

    In pinned memory for a GPU, but not where steps are recorded: a recording minds what other threads ask of CUDA.
    """
    batches = inputs.batches(step)
    if training.compile != "no":
        batches = (batch.padded(training.train_batch_size) for batch in batches)
    pinned = device.type == "cuda" and training.compile != "cudagraphs"
    return [batch.pinned() if pinned else batch for batch in batches]


@contextmanager
def prepared_ahead(
    make: Callable[[int], Made], last_step: int, device: torch.device, *, wanted: bool = True
) -> Iterator[Callable[[int], Made]]:
    """Inside the block: a function from a step to what `make` gives for it, which has made that of the next step meanwhile.

    What a step sees depends on seed and step alone, so that nothing changes with it: not the numbers, not where a training goes on. An error
    is raised when its own step asks, as without a thread. One thread prepares, and only where it is `wanted` and a core is free for it: where
    all compute, it would make them wait. `make` must ask no model for anything, for the block uses them.
    """
    if not (wanted and _core_is_free(device)):
        yield make
        return
    ahead: dict[int, Future[Made]] = {}

    def take(step: int) -> Made:
        made = ahead.pop(step).result() if step in ahead else make(step)
        if step < last_step:
            ahead[step + 1] = pool.submit(make, step + 1)
        return made

    with ThreadPoolExecutor(1, "next batch", partial(_use, device)) as pool:
        try:
            yield take
        finally:
            pool.shutdown(cancel_futures=True)


def _core_is_free(device: torch.device) -> bool:
    """Whether this process may use more cores than compute; beside a GPU one starts its kernels."""
    return cores() > (1 if device.type == "cuda" else torch.get_num_threads())


def _use(device: torch.device) -> None:
    """A thread begins with the first GPU, where it would make a context of its own; a single process's device has no number."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
