"""A LoRA training in one of several processes, which notes what it said to the others: run by torch.distributed.run, with a folder.

The second process is asked to stop at its third step.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.runs.inputs import read_sources
from fashion_ml.runs.lora import accelerator_for
from fashion_ml.runtime.signals import StopRequest
from fashion_ml.training.lora_inputs import prepare_inputs
from fashion_ml.training.lora_loop import Hooks, train_lora
from tests.unit.training.setup import experiment

found: dict[str, Any] = {"gradients": [], "stopped": 0}


def watch(rank: int) -> None:
    """Count how often gradients are shared at each step."""
    made, check = torch.nn.parallel.DistributedDataParallel.__init__, StopRequest.check

    def shared(_: Any, bucket: Any) -> Any:
        found["gradients"][-1] += 1
        return allreduce_hook(None, bucket)

    shared.__annotations__.clear()  # torch compares them, and does not read them as text

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        self.register_comm_hook(None, shared)
        found["unused"] = self.find_unused_parameters

    def checked(self: Any, *, last: bool = False) -> None:
        found["stopped"] += 1
        if rank == 1 and found["stopped"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        check(self, last=last)
        found["gradients"].append(0)

    torch.nn.parallel.DistributedDataParallel.__init__ = init  # type: ignore[method-assign]
    StopRequest.check = checked  # type: ignore[method-assign]


def main(folder: Path) -> None:
    """Train for six steps of three small batches, unless one is stopped."""
    accelerator = accelerator_for("no")
    watch(accelerator.process_index)
    training = {"max_train_steps": 6, "train_batch_size": 1, "gradient_accumulation_steps": 3, "log_every": 9}
    config = experiment(folder / "images", training=training)
    pipeline, sources = load_pipeline("embedded"), read_sources(config)
    inputs, validation = prepare_inputs(config, pipeline, sources.items, sources.prior, accelerator)
    found["gradients"].append(0)
    hooks = Hooks(rows=lambda rows: None)
    try:
        train_lora(config, pipeline, inputs, validation, folder / "out", hooks, accelerator)
    except KeyboardInterrupt:
        found["raised"] = True
    seconds = distributed.group.WORLD._get_backend(accelerator.device).options._timeout.total_seconds()
    note = {**found, "timeout": seconds, "backend": distributed.get_backend()}
    (folder / f"{accelerator.process_index}.json").write_text(json.dumps(note))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
