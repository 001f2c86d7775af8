"""What a training measured, step by step: buffered on the device, then written to the loss log and handed out."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.reports.loss_log import IMAGE_LOSSES, LossLog

_MOST_SECONDS = 1.0
"""Steps wait no longer than this before they are handed out, however few they are."""


@dataclass
class LossSeries:
    """A measured series over optimiser steps, 16 bytes a step: trainings are long."""

    steps: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def add(self, step: int, value: float) -> None:
        """Append one measurement."""
        self.steps.append(step)
        self.values.append(value)

    def as_lists(self) -> tuple[list[int], list[float]]:
        """Steps and values for JSON and reports."""
        return list(self.steps), list(self.values)

    @classmethod
    def of(cls, steps: Sequence[int], values: Sequence[float]) -> LossSeries:
        """A series of these points."""
        return cls(array("q", steps), array("d", values))


@dataclass(frozen=True)
class _Pending:
    step: int
    time: float
    total_loss: torch.Tensor
    grad_norm: torch.Tensor
    measured: dict[str, float]
    images: dict[str, float]


class TrainingLog:
    """The series of a training. Values stay on the device until `flush`, so that no step waits for the one before it."""

    def __init__(
        self,
        folder: Path,
        accelerator: Any,
        *,
        on_rows: Callable[[list[dict[str, float]]], None],
        images_of: Callable[[int], list[str]],
        log_every: int,
        last_step: int,
    ):
        self.total_loss = LossSeries()
        self.image_losses = {name: LossSeries() for name in IMAGE_LOSSES}
        self.best: tuple[int, float] | None = None
        self.val_loss: float | None = None
        self.base: dict[str, float] = {}
        self._folder, self._accelerator, self._on_rows, self._images_of = folder, accelerator, on_rows, images_of
        self._log_every, self._last_step = log_every, last_step
        self._pending: list[_Pending] = []
        self._log: LossLog | None = None
        self._seconds_before, self._began = 0.0, time.monotonic()

    @property
    def latest(self) -> float | None:
        """total_loss of the last flushed step."""
        return self.total_loss.values[-1] if self.total_loss.values else None

    @property
    def seconds(self) -> float:
        """Wall time of the training so far, over all its parts."""
        return self._seconds_before + time.monotonic() - self._began

    def open(self, after_step: int) -> None:
        """Begin the loss log, or go on with it behind the rows up to `after_step`; time counts from here."""
        self._began = time.monotonic()
        if self._accelerator.is_main_process:
            self._log = LossLog(self._folder / "training_logs" / "training_loss_log.txt", after_step=after_step)

    def add(
        self,
        step: int,
        *,
        total_loss: torch.Tensor,
        grad_norm: torch.Tensor,
        measured: dict[str, float],
        images: dict[str, float],
    ) -> None:
        """Buffer a step, its total_loss summed over processes already.

        `measured` are plain figures such as `epoch`, `learning_rate` and val_loss, `images` the image losses.
        """
        self.val_loss = measured.get("val_loss", self.val_loss)
        self._pending.append(_Pending(step, time.time(), total_loss, torch.as_tensor(grad_norm).detach(), measured, images))
        # several processes must find a loss that is not finite at the same step, and their clocks differ
        late = self._accelerator.num_processes == 1 and time.time() - self._pending[0].time > _MOST_SECONDS
        if late or step % self._log_every == 0 or step == self._last_step or images or "val_loss" in measured:
            self.flush()

    def flush(self) -> None:
        """Bring what is buffered to the CPU, in one transfer, and hand it out. InputError when a loss is not finite."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        losses = torch.stack([entry.total_loss for entry in pending]).tolist()
        norms = torch.stack([entry.grad_norm for entry in pending]).tolist()
        rows: list[dict[str, float]] = []
        for entry, loss, norm in zip(pending, losses, norms, strict=True):
            if not torch.isfinite(torch.tensor(loss)):
                self._hand_out(rows)
                raise InputError(self._not_finite(entry.step))
            self.total_loss.add(entry.step, loss)
            row = {"step": float(entry.step), "time": entry.time, "total_loss": loss, **entry.measured}
            if norm < float("inf"):  # fp16 skips steps whose gradients overflow; such a norm is not a measurement
                row["grad_norm"] = norm
            rows.append(row)
            for name, value in entry.images.items():
                self.image_losses[name].add(entry.step, value)
            if self._log and (entry.step % self._log_every == 0 or entry.step in (1, self._last_step) or entry.images):
                epoch, rate = int(entry.measured["epoch"]), entry.measured["learning_rate"]
                self._log.write(entry.step, epoch, loss, rate, entry.time, **entry.images)
        self._hand_out(rows)

    def _hand_out(self, rows: list[dict[str, float]]) -> None:
        if self._accelerator.is_main_process and rows:
            self._on_rows(rows)

    def close(self) -> None:
        """Sync and close the loss log."""
        if self._log:
            self._log.close()

    def to_dict(self) -> dict[str, Any]:
        """What a state keeps, for JSON."""
        return {
            "total_loss": self.total_loss.as_lists(),
            "image_losses": {name: series.as_lists() for name, series in self.image_losses.items()},
            "best": self.best,
            "val_loss": self.val_loss,
            "base": self.base,
            "seconds": self.seconds,
        }

    def restore(self, plain: dict[str, Any]) -> None:
        """Take over what a state kept."""
        self.total_loss = LossSeries.of(*plain["total_loss"])
        self.image_losses = {name: LossSeries.of(*series) for name, series in plain["image_losses"].items()}
        self.best = tuple(plain["best"]) if plain["best"] else None
        self.val_loss = plain["val_loss"]
        self.base = dict(plain["base"])
        self._seconds_before = float(plain["seconds"])

    def _not_finite(self, step: int) -> str:
        kept = sorted(self._folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
        last = f"the last good file is {kept[-1]}" if kept else "no file had been saved yet"
        return (
            f"optimizer.learning_rate: total_loss is not finite at step {step} (images {', '.join(self._images_of(step))}); "
            f"lower the learning rate or use mixed_precision no; {last}"
        )
