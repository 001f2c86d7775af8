"""LoRA fine-tuning of Stable Diffusion: set-up, and one visible loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fashion_ml.config import LoraExperiment
from fashion_ml.data.lora_batches import Batch, StepInputs
from fashion_ml.losses.diffusion import (
    add_noise,
    debiased_weight,
    huber_c,
    min_snr_weight,
    per_image_huber,
    per_image_mse,
    snr,
    target_of,
)
from fashion_ml.models.fused_lora import use_fused_linears
from fashion_ml.models.kohya_format import load_lora
from fashion_ml.models.lora import LoraSpec, add_lora
from fashion_ml.models.matmul_conv import use_small_convolutions
from fashion_ml.runtime.console import bar
from fashion_ml.runtime.seeding import derive_seed
from fashion_ml.runtime.signals import StopNow, not_interrupted, stop_between_steps
from fashion_ml.training.checkpoints import CheckpointManager
from fashion_ml.training.kohya_metadata import kohya_metadata
from fashion_ml.training.lr_schedule import lr_factor
from fashion_ml.training.optimizers import make_optimizer
from fashion_ml.training.training_log import LossSeries, TrainingLog
from fashion_ml.training.validation import Validation


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
    """The step of the lowest val_loss, whose weights are in `best.safetensors`; None without validation."""
    steps_now: int
    """Steps trained by this process; 0 when a training that was complete only went on to its evaluation."""
    seconds: float
    """Wall time of the loop alone, over all parts of a training that was stopped and resumed."""
    parameters: int
    """Trained numbers."""


def lora_spec(config: LoraExperiment) -> LoraSpec:
    """The LoRA of an experiment, each setting by its name."""
    return LoraSpec(**config.network.model_dump(exclude={"network_weights"}))


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
    settings, device, spec, plan = config.training, accelerator.device, lora_spec(config), inputs.plan
    parameters = add_lora(pipeline.unet, pipeline.text_encoder, spec, settings.seed)
    if config.network.network_weights:
        load_lora(Path(config.network.network_weights).expanduser(), pipeline.unet, pipeline.text_encoder, spec)
    optimizer = accelerator.prepare(make_optimizer(config.optimizer, parameters, device))
    models = _prepared(config, pipeline, accelerator)
    predict, loss_of = _functions(config, pipeline, models, accelerator)
    started = time.time()

    def metadata(step: int) -> dict[str, str]:
        return kohya_metadata(config, inputs, pipeline, validation, step=step, started=started)

    checkpoints = CheckpointManager(config, folder, pipeline, spec, parameters, optimizer, accelerator, metadata)
    record = TrainingLog(
        folder,
        accelerator,
        on_rows=hooks.rows,
        images_of=lambda step: [inputs.images.items[i].path.name for i in plan.images(step)],
        log_every=settings.log_every,
        last_step=settings.max_train_steps,
    )
    done = checkpoints.restore(record) if resume else 0
    record.open(done)
    measure = _Measuring(config, pipeline, validation, predict, hooks, checkpoints, record, accelerator)
    before = done
    try:
        with bar("train LoRA", settings.max_train_steps, done=done) as progress, stop_between_steps() as stop:
            for step in range(done + 1, settings.max_train_steps + 1):
                # Loss and backward, one batch after the other; processes share their gradients at the last
                if spec.dropout > 0:
                    torch.manual_seed(derive_seed(settings.seed, f"dropout {accelerator.process_index}", step))
                total_loss = torch.zeros((), device=device)
                batches = list(inputs.batches(step))
                for batch in batches:
                    with _own_gradients(accelerator, models, unless=batch is batches[-1]):
                        part = loss_of(batch)
                        accelerator.backward(part * accelerator.num_processes)
                    total_loss += part.detach()
                if accelerator.num_processes > 1:
                    total_loss = accelerator.reduce(total_loss, reduction="sum")

                # Clip and step
                grad_norm = accelerator.clip_grad_norm_(parameters.all, config.optimizer.max_grad_norm or math.inf)
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * _factor(config, step, group["peak"])
                optimizer.step()
                optimizer.zero_grad()
                done = step

                # Validate, check and sample, where it is time for that
                epoch, epoch_ends = plan.epoch(step), step % plan.steps_per_epoch == 0
                last = step == settings.max_train_steps
                measured = {"epoch": float(epoch), "learning_rate": float(optimizer.param_groups[0]["lr"])}
                measured |= measure.validation(step, due=epoch_ends or last)
                images = measure.images(step)

                # Log
                record.add(step, total_loss=total_loss, grad_norm=grad_norm, measured=measured, images=images)
                progress.advance(note=f"epoch {epoch}" + (f" loss {record.latest:.4f}" if record.latest is not None else ""))

                # Save, and stop if asked to
                checkpoints.after_step(step, epoch, epoch_ends, record)
                stop.check(accelerator)
        path = checkpoints.lora(config.output.output_name, settings.max_train_steps)
        if settings.save_state:
            checkpoints.state(done, record)
    except KeyboardInterrupt as stopped:
        if done and not isinstance(stopped, StopNow):
            with not_interrupted():  # `mlflow run` sends a second signal at once
                checkpoints.state(done, record)
                checkpoints.lora(f"{config.output.output_name}-step{done:08d}", done)
        raise
    finally:
        record.close()
    best = record.best[0] if record.best else None
    count = sum(parameter.numel() for parameter in parameters.all)
    return TrainedLora(
        path, record.total_loss, record.image_losses, record.val_loss, best, done - before, record.seconds, count
    )


def _prepared(config: LoraExperiment, pipeline: Any, accelerator: Any) -> tuple[Any, ...]:
    """The trained models in training mode as the loop calls them: the UNet, and the text encoder if it trains."""
    models = [pipeline.unet, *([pipeline.text_encoder] if config.network.train_text_encoder else [])]
    for model in models:
        model.train()
        if config.training.gradient_checkpointing:
            (getattr(model, "enable_gradient_checkpointing", None) or model.gradient_checkpointing_enable)()
    if config.training.channels_last:
        pipeline.unet.to(memory_format=torch.channels_last)
    for model in models:
        use_fused_linears(model)
    use_small_convolutions(pipeline.unet)
    if config.training.compile:
        models[0] = torch.compile(models[0])
    return tuple(accelerator.prepare(model) for model in models)


Predict = Callable[..., torch.Tensor]


def _functions(
    config: LoraExperiment, pipeline: Any, models: Sequence[Any], accelerator: Any
) -> tuple[Predict, Callable[[Batch], torch.Tensor]]:
    """`predict(noisy, timesteps, text, plain=False)`, plain meaning neither compiled nor distributed, and the loss of a batch."""
    device, loss = accelerator.device, config.loss
    abar, kind = pipeline.scheduler.alphas_cumprod.to(device), pipeline.scheduler.config.prediction_type
    trains_text = config.network.train_text_encoder

    def predict(noisy: torch.Tensor, timesteps: torch.Tensor, text: torch.Tensor, plain: bool = False) -> torch.Tensor:
        unet, *text_encoder = (pipeline.unet, pipeline.text_encoder) if plain else models
        with accelerator.autocast():
            hidden = text_encoder[0](text).last_hidden_state if trains_text else text
            return unet(noisy, timesteps, hidden).sample

    def loss_of(batch: Batch) -> torch.Tensor:
        x, eps, t = batch.latents.to(device), batch.noise.to(device), batch.timesteps.to(device)
        prediction = predict(add_noise(x, eps, abar, t), t, batch.text.to(device))
        target = target_of(kind, x, eps, abar, t)
        if loss.loss_type == "huber":
            losses = per_image_huber(prediction, target, huber_c(loss.huber_schedule, loss.huber_c, abar, t))
        else:
            losses = per_image_mse(prediction, target)
        if loss.min_snr_gamma is not None:
            losses = losses * min_snr_weight(snr(abar, t), loss.min_snr_gamma, kind)
        if loss.debiased_estimation:
            losses = losses * debiased_weight(snr(abar, t), kind)
        return (losses * batch.share.to(device)).sum()

    return predict, loss_of


class _Measuring:
    """What is measured between steps, and when."""

    def __init__(
        self,
        config: LoraExperiment,
        pipeline: Any,
        validation: Validation | None,
        predict: Predict,
        hooks: Hooks,
        checkpoints: CheckpointManager,
        record: TrainingLog,
        accelerator: Any,
    ):
        self._config, self._pipeline, self._validation, self._predict = config, pipeline, validation, predict
        self._hooks, self._checkpoints, self._record, self._accelerator = hooks, checkpoints, record, accelerator
        if validation is not None and accelerator.is_main_process and not record.base:
            with self._evaluating(), self._without_lora():
                record.base = self._measure()

    def validation(self, step: int, due: bool) -> dict[str, float]:
        """val_loss and its bands, val_loss_base and val_loss_gain; empty when it is not time or there is nothing held out."""
        every = self._config.training.validate_every_n_steps
        due = due if every is None else step % every == 0 or step == self._config.training.max_train_steps
        if self._validation is None or not due or not self._accelerator.is_main_process:
            return {}
        with self._evaluating():
            values = self._measure()
        self._checkpoints.best(step, values["val_loss"], self._record)
        base = self._record.base["val_loss"]
        return {**values, "val_loss_base": base, "val_loss_gain": base - values["val_loss"]}

    def images(self, step: int) -> dict[str, float]:
        """Sample images and performance checks; the image losses of a check, empty otherwise."""
        training, hooks = self._config.training, self._hooks
        if not self._accelerator.is_main_process:
            return {}
        if hooks.sample and training.sample_every and step % training.sample_every == 0:
            with self._evaluating():
                hooks.sample(step)
        final = (
            step == training.max_train_steps and self._config.evaluation.enabled
        )  # then the evaluation after training measures it
        if (
            hooks.check
            and training.performance_check_interval
            and step % training.performance_check_interval == 0
            and not final
        ):
            return hooks.check(step, self._checkpoints.intermediate(f"{self._config.output.output_name}-step{step:08d}", step))
        return {}

    def _measure(self) -> dict[str, float]:
        assert self._validation is not None
        return self._validation.measure(lambda *inputs: self._predict(*inputs, plain=True), self._accelerator.device)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        models = (self._pipeline.unet, self._pipeline.text_encoder)
        modes = [model.training for model in models]
        for model in models:
            model.eval()
        try:
            yield
        finally:
            for model, mode in zip(models, modes, strict=True):
                model.train(mode)

    @contextmanager
    def _without_lora(self) -> Iterator[None]:
        models = [self._pipeline.unet, *([self._pipeline.text_encoder] if self._config.network.train_text_encoder else [])]
        for model in models:
            model.disable_adapters()
        try:
            yield
        finally:
            for model in models:
                model.enable_adapters()


def _factor(config: LoraExperiment, step: int, peak: float) -> float:
    settings = config.optimizer
    return lr_factor(
        step,
        shape=settings.lr_scheduler,
        warmup_steps=settings.lr_warmup_steps,
        total_steps=config.training.max_train_steps,
        peak=peak,
        power=settings.lr_scheduler_power,
    )


@contextmanager
def _own_gradients(accelerator: Any, models: Sequence[Any], unless: bool) -> Iterator[None]:
    """Gradients of this block are not yet shared with the other processes, unless it is the step's last one."""
    with ExitStack() as stack:
        if not unless:
            for model in models:
                stack.enter_context(accelerator.no_sync(model))
        yield
