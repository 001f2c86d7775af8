"""The files a training keeps: LoRA files at intervals, the best by val_loss, and the state to resume from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fashion_ml.config import LoraExperiment
from fashion_ml.errors import InputError
from fashion_ml.models.lora import LoraParameters, LoraSpec, lora_tensors, save_lora
from fashion_ml.training.recording import Record
from fashion_ml.training.state import STATE, load_state, save_state

SAVE_DTYPES = {"float": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Keeper:
    """Writes a training's files, by the main process only; every file appears whole or not at all."""

    def __init__(
        self,
        config: LoraExperiment,
        folder: Path,
        pipeline: Any,
        spec: LoraSpec,
        parameters: LoraParameters,
        optimizer: Any,
        accelerator: Any,
        metadata: Callable[[int], dict[str, str]],
    ):
        self._config, self._folder, self._pipeline, self._spec = config, folder, pipeline, spec
        self._parameters, self._optimizer, self._accelerator = parameters, optimizer, accelerator
        self._metadata, self._state_at = metadata, time.monotonic()
        self._intermediate: list[Path] = []

    def lora(self, name: str, step: int) -> Path:
        """Write `<name>.safetensors` with the weights as they are after `step`."""
        path = self._folder / f"{name}.safetensors"
        if self._accelerator.is_main_process:
            tensors = lora_tensors(self._pipeline.unet, self._pipeline.text_encoder, self._spec)
            save_lora(path, tensors, self._metadata(step), SAVE_DTYPES[self._config.output.save_precision])
        return path

    def after_step(self, step: int, epoch: int, epoch_ends: bool, record: Record) -> None:
        """What the intervals of the config ask for after a step, and a state every save_state_minutes."""
        training, name = self._config.training, self._config.output.output_name
        every_steps, every_epochs = training.save_every_n_steps, training.save_every_n_epochs
        kept = []
        if step < training.max_train_steps:
            if every_steps and step % every_steps == 0:
                kept.append(f"{name}-step{step:08d}")
            if every_epochs and epoch_ends and epoch % every_epochs == 0:
                kept.append(f"{name}-{epoch:06d}")
        if kept:
            record.flush()
        for stem in kept:
            self.intermediate(stem, step)
        minutes = (time.monotonic() - self._state_at) / 60
        if training.save_state and (kept or minutes >= training.save_state_minutes):
            self.state(step, record)

    def intermediate(self, name: str, step: int) -> Path:
        """Write `<name>.safetensors`, and remove the oldest intermediate file beyond save_last_n."""
        path = self.lora(name, step)
        if path not in self._intermediate:
            self._intermediate.append(path)
        limit = self._config.training.save_last_n
        while limit is not None and len(self._intermediate) > limit:
            old = self._intermediate.pop(0)
            if self._accelerator.is_main_process:
                old.unlink(missing_ok=True)
        return path

    def best(self, step: int, val_loss: float, record: Record) -> None:
        """Keep the weights as `best.safetensors` when val_loss is the lowest so far."""
        if math.isfinite(val_loss) and (record.best is None or val_loss < record.best[1]):
            record.best = (step, val_loss)
            self.lora("best", step)

    def state(self, step: int, record: Record) -> None:
        """Write what resuming needs."""
        record.flush()
        self._state_at = time.monotonic()
        if self._accelerator.is_main_process:
            scaler = self._accelerator.scaler
            extra = {
                "record": record.as_plain(),
                "intermediate": [path.name for path in self._intermediate],
                "scaler": scaler.state_dict() if scaler is not None else None,
            }
            save_state(self._folder / STATE, step, self._parameters.all, self._optimizer.state_dict(), extra)

    def restore(self, record: Record) -> int:
        """Take over the state in the folder; returns its step, 0 when none had been written yet."""
        path = self._folder / STATE
        if not path.exists():
            return 0
        state = load_state(path)
        parameters = self._parameters.all
        if [tuple(t.shape) for t in state.parameters] != [tuple(p.shape) for p in parameters]:
            raise InputError(
                f"resume: {str(path)!r} holds another LoRA (rank or targets differ); give the same settings, or --new"
            )
        with torch.no_grad():
            for parameter, saved in zip(parameters, state.parameters, strict=True):
                parameter.copy_(saved)
        self._optimizer.load_state_dict(state.optimizer)
        if state.extra["scaler"] and self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state.extra["scaler"])
        self._intermediate = [self._folder / name for name in state.extra["intermediate"]]
        record.restore(state.extra["record"])
        return state.step
