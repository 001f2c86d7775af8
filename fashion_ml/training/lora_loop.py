"""LoRA fine-tuning of Stable Diffusion: set-up, and one visible loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fashion_ml.config import LoraExperiment
from fashion_ml.data.lora_batches import Batch, StepInputs
from fashion_ml.losses.diffusion import add_noise, target_of
from fashion_ml.losses.timesteps import weight_curve
from fashion_ml.models.ema import EMA, AveragedTensors
from fashion_ml.models.families.known import family_of
from fashion_ml.models.kohya_format import lora_tensors, save_lora
from fashion_ml.models.lora import add_lora
from fashion_ml.models.lora_dropout import lora_layers, scale_to_norm
from fashion_ml.models.new_words import as_begun, as_metadata, word_vectors, words_of, write_embedding
from fashion_ml.models.text_encoding import Text, Tokens, in_precision
from fashion_ml.reports.loss_log import recent_mean
from fashion_ml.runtime.console import bar
from fashion_ml.runtime.float32 import exact_float32
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.processes import wait_for_all
from fashion_ml.runtime.seeding import derive_seed
from fashion_ml.runtime.signals import stop_between_steps
from fashion_ml.training.checkpoints import CheckpointManager, SaveSettings
from fashion_ml.training.kohya_metadata import kohya_metadata
from fashion_ml.training.lora_models import load_weights, lora_spec, optimizer_settings, own_gradients, prepared_models
from fashion_ml.training.lora_objective import error_of, weighted_by_timestep
from fashion_ml.training.lr_schedule import lr_factor
from fashion_ml.training.next_batch import batches_of, prepared_ahead
from fashion_ml.training.optimizers import averaged, clipped_step, make_optimizer
from fashion_ml.training.output_preservation import OutputPreservation, joined, without_lora
from fashion_ml.training.precision import DTYPES
from fashion_ml.training.step_graphs import CudaRecorder, StepGraphs
from fashion_ml.training.train_state import TrainState
from fashion_ml.training.training_log import LossSeries, StepRows, TrainingLog
from fashion_ml.training.validation import MASKED, Validation
from fashion_ml.training.warm_up import warm_up_lora


@dataclass(frozen=True)
class Hooks:
    """What the loop hands out, called by the main process only."""

    rows: Callable[[list[dict[str, float]]], None]
    """Gets rows of `step`, `time` (seconds since 1970) and what was measured at it."""
    check: Callable[[int, Path], dict[str, float]] | None = None
    """Really generates with the LoRA file of a step and measures: visual_loss, fashion_clip_loss, color_loss."""
    sample: Callable[[int], None] | None = None
    """Makes sample images with the weights as they are."""


@dataclass(frozen=True)
class TrainedLora:
    """What a training leaves."""

    path: Path
    total_loss: LossSeries
    image_losses: dict[str, LossSeries]
    """visual_loss, fashion_clip_loss and color_loss where performance checks measured them; empty otherwise."""
    val_loss: float | None
    """The last one measured; None without validation."""
    best_step: int | None
    """The step of the lowest val_loss, with masks val_loss_masked, whose weights are in `best.safetensors`; None without validation."""
    steps_now: int
    """Steps trained by this process; 0 when a training that was complete only went on to its evaluation."""
    seconds: float
    """Wall time of the loop alone, over all parts of a training that was stopped and resumed."""
    parameters: int
    """Trained numbers."""

    def to_dict(self) -> dict[str, Any]:
        """For `--json`; not measured is null."""
        mean, count = recent_mean(self.total_loss.values)
        return {
            "lora": str(self.path),
            "steps": self.total_loss.steps[-1],
            "final_total_loss": self.total_loss.values[-1],
            "recent_total_loss": {"mean": mean, "steps": count},
            "best_step": self.best_step,
            "val_loss": self.val_loss,
            "training_seconds": self.seconds,
            "trained_parameters": self.parameters,
        }


def train_lora(
    config: LoraExperiment,
    pipeline: Any,
    inputs: StepInputs,
    validation: Validation | None,
    folder: Path,
    hooks: Hooks,
    accelerator: Any,
    *,
    resume: bool = False,
) -> TrainedLora:
    """Train, write the loss log and the LoRA files into `folder`, and hand every step's figures to `hooks.rows`.

    A row has `step`, `time`, `epoch`, `total_loss`, `grad_norm`, `learning_rate` and what validation measured. With `resume` it goes on from
    the state in `folder`, or from the start when none was written yet. Stopping by Ctrl-C or SIGTERM saves first. InputError when
    the loss is not finite.
    """
    settings, state, lora = config.training, TrainState(), _Lora(config, pipeline, accelerator)
    logs, last_step = folder / "training_logs", settings.max_train_steps
    fp16, file = settings.mixed_precision == "fp16", logs / "training_loss_log.txt"
    rows = StepRows(file, hooks.rows, log_every=settings.log_every, last_step=last_step, skips_overflows=fp16)
    log = TrainingLog(
        folder,
        accelerator,
        rows,
        names_of=lambda step: [inputs.images.items[i].name.rpartition("/")[2] for i in inputs.plan.images(step)],
        last_step=last_step,
        flush_every=settings.log_every,
    )
    described = partial(kohya_metadata, config, lora.spec, inputs, pipeline, validation, started=time.time())
    checkpoints = CheckpointManager(
        folder,
        config.output.output_name,
        SaveSettings.of(settings.model_dump()),
        accelerator,
        state,
        log,
        last_step=last_step,
        write=lambda path, step: lora.write(path, described(step=step)),
        tensors=[*lora.parameters.all, *lora.parameters.starts, *(lora.average.tensors if lora.average else ())],
        optimizers={"lora": lora.optimizer},
        scalers={"lora": accelerator.scaler},
    )
    if resume:
        checkpoints.restore()
    before = state.step
    with log.open(before), checkpoints.saved_when_stopped(), exact_float32(tf32=settings.tf32):
        warm_up_lora(lora, inputs, state)
        measuring = _Measuring(lora, validation, hooks, checkpoints, state)
        _loop(lora, inputs, measuring, rows, log, checkpoints, state)
        path = checkpoints.finish()
        if lora.average is not None and accelerator.is_main_process:
            with lora.average.in_place():
                lora.write(path.with_name(f"{path.stem}{EMA}.safetensors"), described(step=state.step))
    best, count = state.best[0] if state.best else None, sum(parameter.numel() for parameter in lora.parameters.all)
    return TrainedLora(
        path, rows.total_loss, rows.image_losses, state.val_loss, best, state.step - before, state.seconds, count
    )


def _loop(
    lora: _Lora,
    inputs: StepInputs,
    measuring: _Measuring,
    rows: StepRows,
    log: TrainingLog,
    checkpoints: CheckpointManager,
    state: TrainState,
) -> None:
    settings, spec, plan, accelerator = lora.config.training, lora.spec, inputs.plan, lora.accelerator
    last_step = settings.max_train_steps
    make, ahead = partial(batches_of, inputs, settings, accelerator.device), not inputs.encodes
    with (
        bar(tr("train LoRA"), last_step, done=state.step) as progress,
        prepared_ahead(make, last_step, accelerator.device, wanted=ahead) as batches_at,
        stop_between_steps(accelerator) as stop,
    ):
        for step in range(state.step + 1, last_step + 1):
            epoch, epoch_ends = plan.epoch(step), step % plan.steps_per_epoch == 0

            # Batch, loss and backward, one batch after the other; processes share their gradients at the last
            if spec.dropout > 0 or spec.rank_dropout > 0 or spec.module_dropout > 0:
                torch.manual_seed(derive_seed(settings.seed, f"dropout {accelerator.process_index}", step))
            total_loss = torch.zeros((), device=accelerator.device)
            batches = batches_at(step)
            for batch in batches:
                with own_gradients(accelerator, lora.models, unless=batch is batches[-1]):
                    total_loss += lora.backward(batch)
            parts = {"total_loss": total_loss, **lora.held.taken()}
            if accelerator.num_processes > 1:
                parts = {name: accelerator.reduce(part, reduction="sum") for name, part in parts.items()}

            # Clip and step
            lora.set_rates(step)
            grad_norm = lora.clip_and_step()
            if lora.average is not None:
                lora.average.update(step)
            state.step = step

            # Measure: validate, check and sample, where it is time for that
            measured = measuring.validation(due=epoch_ends or step == last_step)
            measured |= measuring.images()

            # Log
            figures = {"epoch": float(epoch), "learning_rate": lora.rate(), **measured}
            log.add(step, {**parts, "grad_norm": grad_norm}, figures, now=bool(measured))
            progress.advance(note=tr("epoch {epoch}{note}", epoch=epoch, note=rows.note))

            # Save, and stop if asked to
            checkpoints.after_step(epoch, epoch_ends)
            stop.check(last=step == last_step)


class _Lora:
    """The LoRA on its base, its optimiser, and what the loop calls: the loss of a batch, the rates of a step."""

    def __init__(self, config: LoraExperiment, pipeline: Any, accelerator: Any):
        self.config, self.pipeline, self.accelerator, self.spec = config, pipeline, accelerator, lora_spec(config)
        self._family = family_of(pipeline)
        self.encoders = self._family.encoders(pipeline)
        self.parameters = add_lora(pipeline.unet, self.encoders, self.spec, config.training.seed, config.model.clip_skip)
        load_weights(config, pipeline, self.spec)
        if (vectors := word_vectors(pipeline)) is not None:
            vectors.requires_grad_(True)
            self.parameters = replace(self.parameters, word=[vectors])
        decay = config.training.ema_decay
        self.average = AveragedTensors(self.parameters.all, decay) if decay else None
        # not by accelerate, whose step looks for packages and signatures each time: 0.6 ms
        self.optimizer = make_optimizer(optimizer_settings(config), self.parameters, accelerator.device)
        self.trained = [pipeline.unet, *(self.encoders if config.network.train_text_encoder else ())]
        """The models that have a LoRA."""
        self._called = [pipeline.unet, *(self.encoders if config.text_trains else ())]
        self.half, self._autocast, self.models = prepared_models(config, pipeline, self._called, accelerator)
        """Whether the UNet computes in half precision without autocast; what the models are called under; they, in training mode as the loop
        calls them: compiled, distributed."""
        self._abar = pipeline.scheduler.alphas_cumprod.to(accelerator.device)
        self._kind = pipeline.scheduler.config.prediction_type
        points = config.loss.timestep_weights
        self._curve = weight_curve(points, len(self._abar)).to(accelerator.device) if points else None
        self._max_norm = config.optimizer.max_grad_norm or math.inf
        self.held = OutputPreservation(config.loss.output_preservation_weight)
        self._rate = 0.0
        self._graphs: StepGraphs | None = None
        if config.training.compile == "cudagraphs":
            self._graphs = StepGraphs(self.loss_of, self.parameters.all, self.optimizer, self._max_norm, CudaRecorder())

    def predict(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, text: Text | Tokens, *, plain: bool = False
    ) -> torch.Tensor:
        """The UNet's prediction (B, 4, h, w); `text` is what it reads, or tokens where a text encoder trains.

        `plain` means neither compiled nor distributed.
        """
        unet, *encoders = self._called if plain else self.models
        if self.half and not isinstance(text, Tokens):  # which has no text encoder that trains
            return self._family.predict(unet, noisy.to(unet.dtype), timesteps, in_precision(text, unet.dtype)).float()
        with self._autocast():
            if isinstance(text, Tokens):
                text = self._family.encode(encoders, text, self.config.model.clip_skip)
            return self._family.predict(unet, noisy, timesteps, text)

    def loss_of(self, batch: Batch) -> torch.Tensor:
        """What a batch adds to total_loss, 0-d."""
        device, loss, abar, kind = self.accelerator.device, self.config.loss, self._abar, self._kind
        batch = batch.to(device)
        x, eps, t, weights = batch.latents, batch.noise, batch.timesteps, batch.weights
        noisy, held = add_noise(x, eps if batch.added is None else batch.added, abar, t), None
        if batch.preserved is None:
            prediction = self.predict(noisy, t, batch.text)
        else:
            with torch.no_grad(), without_lora(self.trained):
                base = self.predict(noisy, t, batch.preserved, plain=True)
            both = self.predict(torch.cat([noisy, noisy]), torch.cat([t, t]), joined(batch.text, batch.preserved))
            prediction, own = both.chunk(2)
            held = self.held.loss(own, base, batch.share)
        losses = error_of(loss, prediction, target_of(kind, x, eps, abar, t), abar, t, weights)
        found = (weighted_by_timestep(loss, losses, abar, t, kind, self._curve) * batch.share).sum()
        return found if held is None else found + held

    def backward(self, batch: Batch) -> torch.Tensor:
        """Add a batch's gradients to those there are; what it adds to total_loss, 0-d, until the next batch."""
        if self._graphs:
            return self._graphs.backward(batch)
        part = self.loss_of(batch)
        processes = self.accelerator.num_processes
        if processes == 1 and self.accelerator.scaler is None:
            part.backward()  # accelerate divides by its own count of batches, which is 1
        else:
            self.accelerator.backward(part * processes)
        return part.detach()

    def clip_and_step(self) -> torch.Tensor:
        """Clip the gradients, step with them and let go of them, and hold the weights to their norm; the gradients' before clipping, 0-d."""
        if self._graphs:
            norm = self._graphs.step()
        else:
            norm = clipped_step(self.optimizer, self.parameters.all, self._max_norm, self.accelerator.scaler)
        if self.config.network.scale_weight_norms is not None:
            for model in self.trained:
                scale_to_norm(lora_layers(model), self.config.network.scale_weight_norms)
        return norm

    def set_rates(self, step: int) -> None:
        """The learning rates of a step, by the schedule from each group's peak."""
        settings, rates = self.config.optimizer, []
        for group in self.optimizer.param_groups:
            factor = lr_factor(
                step,
                shape=settings.lr_scheduler,
                warmup_steps=settings.lr_warmup_steps,
                total_steps=self.config.training.max_train_steps,
                peak=group["peak"],
                power=settings.lr_scheduler_power,
                cycles=settings.lr_scheduler_num_cycles,
                least=settings.lr_scheduler_min_lr_ratio,
                decay_steps=settings.lr_decay_steps,
            )
            rates.append(group["peak"] * factor)
        self._rate = rates[0]
        if self._graphs:
            self._graphs.set_rates(rates)
            return
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def rate(self) -> float:
        """The UNet's learning rate as it is."""
        return self._rate

    def write(self, path: Path, metadata: dict[str, str]) -> None:
        """Write the LoRA as it is, a new word's vectors in its metadata, and with the last file in one of their own."""
        dtype = DTYPES[self.config.output.save_precision]
        with averaged(self.optimizer, self.parameters.all):
            words = words_of(self.pipeline, dtype)
            tensors = lora_tensors(self.pipeline.unet, self.encoders, self.spec)
            save_lora(path, tensors, {**metadata, **as_metadata(words)}, dtype)
        for word in words if path.stem == self.config.output.output_name else ():
            write_embedding(path.with_name(f"{word.token}.safetensors"), word, dtype)


class _Measuring:
    """What is measured between steps, and when."""

    def __init__(
        self, lora: _Lora, validation: Validation | None, hooks: Hooks, checkpoints: CheckpointManager, state: TrainState
    ):
        self._lora, self._validation, self._hooks = lora, validation, hooks
        self._checkpoints, self._state, self._is_main = checkpoints, state, lora.accelerator.is_main_process
        if validation is not None and self._is_main and not state.base:
            with self._evaluating(), without_lora(lora.trained), as_begun(lora.pipeline):
                state.base = self._measure()
        if state.step == 0:
            self.images()

    def validation(self, due: bool) -> dict[str, float]:
        """val_loss and its bands, val_loss_base and val_loss_gain, with masks the same of what they show as val_loss_masked…; empty when it is
        not time or there is nothing held out. The best weights are those of the lowest val_loss_masked where there is one."""
        training, step = self._lora.config.training, self._state.step
        if training.validate_every_n_steps is not None:
            due = step % training.validate_every_n_steps == 0 or step == training.max_train_steps
        if self._validation is None or not due:
            return {}
        if not self._is_main:
            wait_for_all(self._lora.accelerator)
            return {}
        with self._evaluating():
            values = self._measure()
        wait_for_all(self._lora.accelerator)
        self._checkpoints.best(values.get(MASKED, values["val_loss"]))
        self._state.val_loss = values["val_loss"]
        base = {name: self._state.base[name] for name in ("val_loss", MASKED) if name in values}
        gains = {f"{name}_gain": value - values[name] for name, value in base.items()}
        return {**values, **{f"{name}_base": value for name, value in base.items()}, **gains}

    def images(self) -> dict[str, float]:
        """Sample images, and performance checks but at the last step where the evaluation follows: their image losses, empty without one."""
        training, hooks, step = self._lora.config.training, self._hooks, self._state.step
        final = step == training.max_train_steps and self._lora.config.evaluation.enabled
        sampled = training.sample_every is not None and step % training.sample_every == 0
        checked = step > 0 and step % (training.performance_check_interval or step + 1) == 0 and not final
        if self._is_main and hooks.sample and sampled:
            with self._evaluating():
                hooks.sample(step)
        found = hooks.check(step, self._checkpoints.of_step()) if self._is_main and hooks.check and checked else {}
        wait_for_all(self._lora.accelerator, wanted=sampled or checked)
        return found

    def _measure(self) -> dict[str, float]:
        assert self._validation is not None
        return self._validation.measure(partial(self._lora.predict, plain=True), self._lora.accelerator.device)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        modes = [(model, model.training) for model in (self._lora.pipeline.unet, *self._lora.encoders)]
        for model, _ in modes:
            model.eval()
        try:
            with averaged(self._lora.optimizer, self._lora.parameters.all):
                yield
        finally:
            for model, mode in modes:
                model.train(mode)
