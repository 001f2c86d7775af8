"""The files a training keeps, for both trainers: weights at intervals, the best by val_loss, the last, and the state to resume from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.processes import InAnyProcess
from fashion_ml.runtime.signals import StopNow, not_interrupted
from fashion_ml.training.resume_point import STATE
from fashion_ml.training.train_state import TrainState, load_state, save_state
from fashion_ml.training.training_log import TrainingLog


@dataclass(frozen=True)
class SaveSettings:
    """When files are kept; the names are those of the experiment's settings."""

    save_every_n_epochs: int | None
    save_last_n: int | None
    save_state: bool
    save_state_minutes: float
    save_every_n_steps: int | None = None

    @classmethod
    def of(cls, training: Mapping[str, Any]) -> SaveSettings:
        """Those among an experiment's training settings."""
        names = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in training.items() if name in names})


class CheckpointManager:
    """Writes a training's files, by the main process only; every file appears whole or not at all.

    `write(path, step)` writes the weights as they are; `tensors` and `optimizers` are what a state holds and takes back.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        settings: SaveSettings,
        accelerator: Any,
        state: TrainState,
        log: TrainingLog,
        *,
        last_step: int,
        write: Callable[[Path, int], None],
        tensors: Sequence[torch.Tensor],
        optimizers: Mapping[str, Any],
        scalers: Mapping[str, Any],
    ):
        self._folder, self._name, self._settings, self._accelerator = folder, name, settings, accelerator
        self._state, self._log, self._last_step, self._write = state, log, last_step, write
        self._tensors, self._optimizers = tensors, optimizers
        self._scalers = {key: scaler for key, scaler in scalers.items() if scaler is not None}
        self._state_at = time.monotonic()
        self._late = InAnyProcess(self._is_late, accelerator)
        """Whether it is time for a state, by any process's clock: writing one is the work of all."""

    def weights(self, stem: str) -> Path:
        """Write `<stem>.safetensors` with the weights as they are."""
        path = self._folder / f"{stem}.safetensors"
        if self._accelerator.is_main_process:
            self._write(path, self._state.step)
        return path

    def intermediate(self, stem: str) -> Path:
        """Write `<stem>.safetensors`, and remove the oldest intermediate file beyond save_last_n."""
        path, kept = self.weights(stem), self._state.kept
        if path.name not in kept:
            kept.append(path.name)
        limit = self._settings.save_last_n
        while limit is not None and len(kept) > limit:
            old = self._folder / kept.pop(0)
            if self._accelerator.is_main_process:
                old.unlink(missing_ok=True)
        return path

    def of_step(self) -> Path:
        """An intermediate file named for the step."""
        return self.intermediate(f"{self._name}-step{self._state.step:08d}")

    def best(self, val_loss: float) -> None:
        """Keep the weights as `best.safetensors` when val_loss is the lowest so far."""
        if math.isfinite(val_loss) and (self._state.best is None or val_loss < self._state.best[1]):
            self._state.best = (self._state.step, val_loss)
            self.weights("best")

    def after_step(self, epoch: int, epoch_ends: bool) -> None:
        """What the intervals ask for after a step, and a state with these files and every save_state_minutes."""
        settings, step, stems = self._settings, self._state.step, []
        if step < self._last_step:
            if settings.save_every_n_steps and step % settings.save_every_n_steps == 0:
                stems.append(f"{self._name}-step{step:08d}")
            if settings.save_every_n_epochs and epoch_ends and epoch % settings.save_every_n_epochs == 0:
                stems.append(f"{self._name}-{epoch:06d}")
        if stems:
            self._log.flush()  # a loss that is not finite is found before its weights are written
        for stem in stems:
            self.intermediate(stem)
        if settings.save_state:
            if stems or self._late.heard():
                self.save_state()
            self._late.tell()

    def _is_late(self) -> bool:
        return (time.monotonic() - self._state_at) / 60 >= self._settings.save_state_minutes

    def finish(self) -> Path:
        """Write `<output_name>.safetensors`, and the state if states are kept."""
        path = self.weights(self._name)
        if self._settings.save_state:
            self.save_state()
        return path

    @contextmanager
    def saved_when_stopped(self) -> Iterator[None]:
        """Ctrl-C or SIGTERM inside the block saves the state and the weights before it goes on; a second request, later, does not."""
        try:
            yield
        except KeyboardInterrupt as stopped:
            if self._state.step and not isinstance(stopped, StopNow):
                with not_interrupted():  # `mlflow run` sends a second signal at once
                    self.save_state()
                    self.weights(f"{self._name}-step{self._state.step:08d}")
            raise

    def save_state(self) -> None:
        """Write what resuming needs; called by all processes. InputError, and nothing is written, when a loss is not finite."""
        self._log.flush()
        self._state_at = time.monotonic()
        if self._accelerator.is_main_process:
            scalers = {name: scaler.state_dict() for name, scaler in self._scalers.items()}
            extra = {"train": self._state.to_dict(), "log": self._log.to_dict(), "scalers": scalers}
            save_state(self._folder / STATE, self._state.step, self._tensors, self._optimizers, extra)

    def restore(self) -> None:
        """Take over the state in the folder, into weights, optimisers, log and `TrainState`; nothing when none had been written yet."""
        path = self._folder / STATE
        if not path.exists():
            return
        saved = load_state(path)
        try:
            saved.restore(self._tensors, self._optimizers)
        except ValueError:
            what = tr("other weights (rank, targets or sizes differ)")
            raise InputError(
                tr("resume: {path!r} holds {what}; give the same settings, or --new", path=str(path), what=what)
            ) from None
        for name, scaler in self._scalers.items():
            if saved.extra["scalers"].get(name):
                scaler.load_state_dict(saved.extra["scalers"][name])
        self._state.restore(saved.step, saved.extra["train"])
        self._log.restore(saved.extra["log"])
