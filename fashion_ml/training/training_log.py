"""What a training measured, step by step: buffered on the device, checked, and handed to what becomes of it.

A LoRA's steps are rows themselves (`StepRows`), a StarGAN's become the means of their epoch (`EpochMeans`).
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.reports.loss_log import IMAGE_LOSSES, LossLog
from fashion_ml.reports.stargan_log import EpochLog
from fashion_ml.runtime.language import tr, translated
from fashion_ml.training.skipped_steps import FIX, SKIPPED, SkippedSteps

_MOST_SECONDS = 1.0
"""Steps wait no longer than this before they are handed out, however few they are."""
_NAMED = 4
"""Files of a step that an error names."""


@dataclass(frozen=True)
class Step:
    """What was measured at a step."""

    step: int
    time: float
    """When, in seconds since 1970."""
    values: dict[str, float]
    """Losses and norms, from the device."""
    figures: dict[str, float]
    """Plain figures that were known on the CPU, such as `epoch` and `learning_rate`."""


class TrainingLog:
    """The steps of a training. Values stay on the device until `flush`, so that no step waits for the one before it."""

    def __init__(
        self,
        folder: Path,
        accelerator: Any,
        rows: StepRows | EpochMeans,
        *,
        names_of: Callable[[int], list[str]],
        last_step: int,
        flush_every: int,
    ):
        self._folder, self._accelerator, self._rows, self._names_of = folder, accelerator, rows, names_of
        self._last_step, self._flush_every = last_step, flush_every
        self._pending: list[tuple[int, float, Mapping[str, torch.Tensor], dict[str, float]]] = []
        self._since = 0.0

    @contextmanager
    def open(self, after_step: int) -> Iterator[None]:
        """Inside the block the log's file is there: a new one, or behind what it has up to `after_step`."""
        if self._accelerator.is_main_process:
            self._rows.open(after_step)
        try:
            yield
        finally:
            self._rows.close()

    def add(self, step: int, values: Mapping[str, torch.Tensor], figures: dict[str, float], *, now: bool = False) -> None:
        """Buffer a step: `values` on the device, 0-d, and plain `figures`; `now` hands it out at once."""
        detached = {name: torch.as_tensor(value).detach() for name, value in values.items()}
        if not self._pending:
            self._since = time.monotonic()  # the clock on the wall may be set meanwhile
        self._pending.append((step, time.time(), detached, figures))
        # several processes must find a loss that is not finite at the same step, and their clocks differ
        late = self._accelerator.num_processes == 1 and time.monotonic() - self._since > _MOST_SECONDS
        if now or late or step % self._flush_every == 0 or step == self._last_step:
            self.flush()

    def flush(self) -> None:
        """Bring what is buffered to the CPU, in one transfer, and hand it out. InputError when a loss is not finite, and behind the last
        step when fp16 left nearly all steps out."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        flat = torch.stack([value for _, _, values, _ in pending for value in values.values()])
        if self._rows.differ_by_process and self._accelerator.num_processes > 1:
            flat = self._accelerator.reduce(flat, reduction="mean")
        numbers = iter(flat.tolist())
        steps = [Step(step, when, {name: next(numbers) for name in values}, figures) for step, when, values, figures in pending]
        bad = next((step for step in steps if self._rows.not_finite(step)), None)
        self._rows.take(steps if bad is None else steps[: steps.index(bad)], main=self._accelerator.is_main_process)
        if bad is not None:
            raise InputError(self.not_finite(self._rows.not_finite(bad), bad.step))
        if steps[-1].step == self._last_step and self._rows.skipped is not None:
            self._rows.skipped.at_the_end(self._last_step)

    def not_finite(self, what: str, step: int) -> str:
        """The error for a training that no longer goes anywhere."""
        names = self._names_of(step)
        shown = ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
        kept = sorted(self._folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
        last = tr("the last good file is {kept}", kept=kept[-1]) if kept else tr("no file had been saved yet")
        field, fix = "optimizer.learning_rate", tr("lower the learning rate or use mixed_precision no")
        if self._rows.skipped is not None:  # fp16
            field, fix = "training.mixed_precision", translated(FIX)
        return tr(
            "{field}: {what} is not finite at step {step} (images {shown}); {fix}; {last}",
            field=field,
            what=what,
            step=step,
            shown=shown,
            fix=fix,
            last=last,
        )

    def to_dict(self) -> dict[str, Any]:
        """What a state keeps, for JSON."""
        return self._rows.to_dict()

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Take over what a state kept."""
        self._rows.restore(plain)


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


class StepRows:
    """A LoRA's steps: the series of the losses, rows of the loss log, and what `on_rows` makes of each row."""

    differ_by_process = False
    """total_loss has been summed over processes already."""

    def __init__(
        self,
        path: Path,
        on_rows: Callable[[list[dict[str, float]]], None],
        *,
        log_every: int,
        last_step: int,
        skips_overflows: bool = False,
    ):
        self.skipped = SkippedSteps() if skips_overflows else None
        """Steps that fp16 left out; None in other precisions."""
        self.total_loss = LossSeries()
        self.image_losses = {name: LossSeries() for name in IMAGE_LOSSES}
        self._path, self._on_rows, self._log_every, self._last_step = path, on_rows, log_every, last_step
        self._log: LossLog | None = None

    @property
    def latest(self) -> float | None:
        """total_loss of the last step that was handed out."""
        return self.total_loss.values[-1] if self.total_loss.values else None

    @property
    def note(self) -> str:
        """What a bar shows: the loss, and how many steps were skipped where some were."""
        loss = f" loss {self.latest:.4f}" if self.latest is not None else ""
        return loss + (tr(" skipped {count}", count=self.skipped.count) if self.skipped and self.skipped.count else "")

    def open(self, after_step: int) -> None:
        """Begin the loss log, or go on with it behind the rows up to `after_step`."""
        self._log = LossLog(self._path, after_step=after_step)

    def close(self) -> None:
        """Sync and close the loss log."""
        if self._log:
            self._log.close()

    def not_finite(self, step: Step) -> str:
        """The name of what should be finite at a step and is not; empty where all is well."""
        return "" if math.isfinite(step.values["total_loss"]) else "total_loss"

    def take(self, steps: Sequence[Step], *, main: bool) -> None:
        """Add steps to the series, the log and, in the main process, hand out their rows."""
        rows: list[dict[str, float]] = []
        try:
            for one in steps:
                row = self._row(one)
                rows.append(row)
                if self.skipped is not None:
                    row[SKIPPED] = float(self.skipped.count + ("grad_norm" not in row))
                    self.skipped.add(one.step, "grad_norm" not in row)
        finally:  # the rows that led to an error are what it is about
            if main and rows:
                self._on_rows(rows)

    def _row(self, one: Step) -> dict[str, float]:
        """Add a step to the series and the log; its row."""
        loss, norm, figures = one.values["total_loss"], one.values["grad_norm"], dict(one.figures)
        images = {name: figures.pop(name) for name in IMAGE_LOSSES if name in figures}
        self.total_loss.add(one.step, loss)
        for name, value in images.items():
            self.image_losses[name].add(one.step, value)
        parts = {name: value for name, value in one.values.items() if name not in ("total_loss", "grad_norm")}
        row = {"step": float(one.step), "time": one.time, "total_loss": loss, **parts, **figures}
        if norm < math.inf:  # fp16 skips steps whose gradients overflow; such a norm is not a measurement
            row["grad_norm"] = norm
        if self._log and (one.step % self._log_every == 0 or one.step in (1, self._last_step) or images):
            self._log.write(one.step, int(figures["epoch"]), loss, figures["learning_rate"], one.time, **images)
        return row

    def to_dict(self) -> dict[str, Any]:
        """What a state keeps, for JSON."""
        images = {name: series.as_lists() for name, series in self.image_losses.items()}
        skipped = self.skipped.to_dict() if self.skipped else {}
        return {"total_loss": self.total_loss.as_lists(), "image_losses": images, **skipped}

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Take over what a state kept."""
        self.total_loss = LossSeries.of(*plain["total_loss"])
        self.image_losses = {name: LossSeries.of(*series) for name, series in plain["image_losses"].items()}
        if self.skipped is not None:
            self.skipped.restore(plain)


TERMS = ("d_loss", "g_loss", "g_adv", "sty", "ds", "cyc", "id", "r1")
"""What a StarGAN step measures; `r1` on steps with the penalty only, `ds` on some steps only where it counts for nothing, `id` where it counts
for something."""
_NOT_ALWAYS = ("r1", "ds")


class EpochMeans:
    """A StarGAN's steps: sums over the running epoch, and the finished epochs, which are lines of `training_log.jsonl`."""

    differ_by_process = True
    """A step's terms are those of a process's own rows of the batch."""

    def __init__(self, path: Path, *, steps_per_epoch: int, skip_overflows: bool):
        self.epochs: list[dict[str, float]] = []
        self._path, self._steps_per_epoch, self._skip = path, steps_per_epoch, skip_overflows
        self._log: EpochLog | None = None
        self.skipped = SkippedSteps() if skip_overflows else None
        """Steps of which the gradient scalers left out a part; None in other precisions than fp16."""
        self._begin()

    def _begin(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps, self._overflows = 0.0, 0.0
        self._counts = dict.fromkeys(_NOT_ALWAYS, 0.0)

    def open(self, after_step: int) -> None:
        """Begin the log, or go on with it behind the epochs that had ended by `after_step`."""
        self._log = EpochLog(self._path, after_epoch=after_step // self._steps_per_epoch)
        self.epochs = self._log.rows

    def close(self) -> None:
        """Nothing: every line is written and flushed by itself."""

    def not_finite(self, step: Step) -> str:
        """The names of what should be finite at a step and is not; empty where all is well, and where overflows are left out."""
        bad = () if self._skip else (name for name, value in step.values.items() if not math.isfinite(value))
        return ", ".join(bad)

    def take(self, steps: Sequence[Step], *, main: bool) -> None:
        """Add steps to the running epoch. The gradient scalers leave out a step that overflows fp16, and so do the means."""
        for one in steps:
            values = dict(one.values)
            overflows = not all(math.isfinite(value) for value in values.values())
            left_out = values.pop(SKIPPED, 0.0) > 0
            if self.skipped is not None:
                self.skipped.add(one.step, left_out or overflows)
            for name, value in values.items():
                self._sums[name] = self._sums.get(name, 0.0) + (0.0 if overflows else value)
            self._overflows += overflows
            self._steps += not overflows
            for name in _NOT_ALWAYS:
                self._counts[name] += name in one.values and not overflows

    def epoch_values(self) -> dict[str, float]:
        """Means of the epoch that has ended, over the steps that count, and the sums begin anew.

        `r1` counts the zeros of steps without it, `r1_computed` does not; `ds` is over the steps that measured it. ValueError when most steps
        overflowed fp16.
        """
        if self._overflows > self._steps:
            raise ValueError(tr("loss of most steps"))
        over = {name: self._counts["ds"] if name == "ds" else self._steps for name in TERMS}
        means = {name: self._sums[name] / over[name] for name in TERMS if name in self._sums and over[name]}
        means.setdefault("r1", 0.0)
        if self._counts["r1"]:
            means["r1_computed"] = means["r1"] * self._steps / self._counts["r1"]
        if self._skip:
            means["overflowed_steps"] = self._overflows
        if self.skipped is not None:
            means[SKIPPED] = float(self.skipped.count)
        self._begin()
        return means

    def write(self, row: dict[str, float]) -> None:
        """Keep a finished epoch; in the main process it becomes a line of the log."""
        self.epochs.append(row)
        if self._log:
            self._log.write(row)

    def to_dict(self) -> dict[str, Any]:
        """The running epoch, for JSON; the finished ones are in the log."""
        skipped = self.skipped.to_dict() if self.skipped else {}
        counts = {f"{name}_steps": count for name, count in self._counts.items()}
        return {"sums": self._sums, "steps": self._steps, **counts, "overflows": self._overflows, **skipped}

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Take over what a state kept."""
        self._sums = dict(plain["sums"])
        self._steps, self._overflows = float(plain["steps"]), float(plain["overflows"])
        # before ds was measured on some steps only, it was on all or on none
        self._counts = {name: float(plain.get(f"{name}_steps", plain["steps"])) for name in _NOT_ALWAYS}
        if self.skipped is not None:
            self.skipped.restore(plain)
