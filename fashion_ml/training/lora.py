"""LoRA fine-tuning of Stable Diffusion: set-up, and one visible loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fashion_ml.config import LoraExperiment
from fashion_ml.data.captioned_images import CaptionedImage, fit_square, load_picture
from fashion_ml.data.order import StepPlan
from fashion_ml.errors import InputError
from fashion_ml.interrupt import stop_between_steps
from fashion_ml.losses.diffusion import min_snr_weight, per_image_mse, snr, target_of
from fashion_ml.models.lora import add_lora, save_lora
from fashion_ml.models.stable_diffusion import encode_captions, encode_latents
from fashion_ml.progress import bar
from fashion_ml.reports.loss_log import LossLog
from fashion_ml.seeding import generator
from fashion_ml.training.metadata import kohya_metadata
from fashion_ml.training.schedule import lr_factor

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class CachedImages:
    """What training needs of the images: moments of the unscaled latents (N, 4, h, w) and text embeddings (N, L, D), on the CPU."""

    latent_mean: torch.Tensor
    latent_std: torch.Tensor
    text: torch.Tensor
    caption_of: tuple[int, ...]
    """Row of `text` of each image; equal captions share one."""


@dataclass
class LossSeries:
    """The training objective of each optimiser step."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class TrainedLora:
    """What a training leaves."""

    path: Path
    total_loss: LossSeries
    seconds: float
    """Wall time of the loop alone."""
    parameters: int
    """Trained numbers."""


def cache_images(pipeline: Any, items: Sequence[CaptionedImage], resolution: int, batch_size: int) -> CachedImages:
    """Encode every image and every different caption once; VAE and text encoder are not needed again."""
    captions = sorted({item.caption for item in items})
    with bar("encode images", len(items)) as progress:

        def batches() -> Any:
            for first in range(0, len(items), batch_size):
                part = items[first : first + batch_size]
                yield [fit_square(load_picture(item.path), resolution) for item in part]
                progress.advance(len(part))

        mean, std = encode_latents(pipeline, batches())
    caption_of = tuple(captions.index(item.caption) for item in items)
    return CachedImages(mean, std, encode_captions(pipeline, captions), caption_of)


def train_lora(
    config: LoraExperiment,
    pipeline: Any,
    items: Sequence[CaptionedImage],
    data: CachedImages,
    folder: Path,
    on_log: Callable[[list[dict[str, float]]], None],
) -> TrainedLora:
    """Train, write the loss log and the LoRA files into `folder`, and hand every step's figures to `on_log`.

    `on_log` gets a list of {step, epoch, total_loss, grad_norm, learning_rate}. Stopping by Ctrl-C or SIGTERM writes
    `<output_name>-stepNNNNNNNN.safetensors` first. InputError when the loss is not finite.
    """
    from accelerate import Accelerator

    settings, seed = config.training, config.training.seed
    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    device, unet = accelerator.device, pipeline.unet
    alpha = config.network.alpha or float(config.network.rank)
    parameters = add_lora(unet, rank=config.network.rank, alpha=alpha, seed=seed)
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    unet.train()
    optimizer = torch.optim.AdamW(parameters, lr=config.optimizer.learning_rate, weight_decay=config.optimizer.weight_decay)
    unet, optimizer = accelerator.prepare(unet, optimizer)
    plan = StepPlan(
        tuple(item.repeats for item in items), settings.train_batch_size * settings.gradient_accumulation_steps, seed
    )
    alphas_cumprod = pipeline.scheduler.alphas_cumprod.to(device)
    kind, scaling = pipeline.scheduler.config.prediction_type, pipeline.vae.config.scaling_factor
    started, series = time.time(), LossSeries()
    pending: list[dict[str, Any]] = []
    log = LossLog(folder / "training_logs" / "training_loss_log.txt")

    def save(name: str, step: int) -> Path:
        metadata = kohya_metadata(config, items, plan, step=step, started=started, prediction_type=kind)
        path = folder / f"{name}.safetensors"
        save_lora(path, accelerator.unwrap_model(unet), alpha, metadata)
        return path

    def flush() -> None:
        rows = [{**row, "total_loss": row["total_loss"].item(), "grad_norm": row["grad_norm"].item()} for row in pending]
        pending.clear()
        for row in rows:
            step = int(row["step"])
            if not torch.isfinite(torch.tensor(row["total_loss"])):
                raise InputError(_not_finite(step, [items[i].path.name for i in plan.images(step)], folder))
            series.steps.append(step)
            series.values.append(row["total_loss"])
            if step % settings.log_every == 0 or step in (1, settings.max_train_steps):
                log.write(step, int(row["epoch"]), row["total_loss"], row["learning_rate"])
        on_log(rows)

    loop_started = time.monotonic()
    try:
        with bar("train LoRA", settings.max_train_steps) as progress, stop_between_steps() as stop:
            for step in range(1, settings.max_train_steps + 1):
                # Batch: images, noise and timesteps are functions of (seed, step)
                chosen = plan.images(step)
                shape = (len(chosen), *data.latent_mean.shape[1:])
                sampled = torch.randn(shape, generator=generator(seed, "latent", step)) * data.latent_std[chosen]
                latents = (data.latent_mean[chosen] + sampled) * scaling
                noise = torch.randn(shape, generator=generator(seed, "noise", step))
                timesteps = torch.randint(0, len(alphas_cumprod), shape[:1], generator=generator(seed, "timestep", step))
                text = data.text[[data.caption_of[i] for i in chosen]]

                # Loss and backward, one micro-batch after the other; the step's loss is the mean over its images
                total_loss = torch.zeros((), device=device)
                for part in torch.arange(len(chosen)).split(settings.train_batch_size):
                    x, eps, t = latents[part].to(device), noise[part].to(device), timesteps[part].to(device)
                    abar = alphas_cumprod[t][:, None, None, None]
                    noisy = abar.sqrt() * x + (1 - abar).sqrt() * eps
                    with accelerator.autocast():
                        prediction = unet(noisy, t, text[part].to(device)).sample
                    losses = per_image_mse(prediction, target_of(kind, x, eps, alphas_cumprod, t))
                    if config.loss.min_snr_gamma is not None:
                        losses = losses * min_snr_weight(snr(alphas_cumprod, t), config.loss.min_snr_gamma, kind)
                    loss = losses.sum() / len(chosen)
                    accelerator.backward(loss)
                    total_loss += loss.detach()

                # Clip and step
                limit = config.optimizer.max_grad_norm or float("inf")
                grad_norm = accelerator.clip_grad_norm_(parameters, limit)
                factor = lr_factor(
                    step,
                    shape=config.optimizer.lr_scheduler,
                    warmup_steps=config.optimizer.lr_warmup_steps,
                    total_steps=settings.max_train_steps,
                )
                for group in optimizer.param_groups:
                    group["lr"] = config.optimizer.learning_rate * factor
                optimizer.step()
                optimizer.zero_grad()

                # Log
                row = {"step": step, "epoch": plan.epoch(step), "learning_rate": config.optimizer.learning_rate * factor}
                pending.append({**row, "total_loss": total_loss, "grad_norm": grad_norm})
                if step % settings.log_every == 0 or step == settings.max_train_steps:
                    flush()
                progress.advance(note=f"epoch {plan.epoch(step)} loss {series.values[-1]:.4f}" if series.values else "")

                # Save, and stop if asked to
                stop.check()
                if step % (plan.steps_per_epoch * settings.save_every_n_epochs) == 0 and step < settings.max_train_steps:
                    flush()
                    save(f"{config.output.output_name}-{plan.epoch(step):06d}", step)
        path = save(config.output.output_name, settings.max_train_steps)
    except KeyboardInterrupt:
        if pending or series.steps:
            flush()
            save(f"{config.output.output_name}-step{series.steps[-1]:08d}", series.steps[-1])
        raise
    finally:
        log.close()
    return TrainedLora(path, series, time.monotonic() - loop_started, sum(p.numel() for p in parameters))


def _not_finite(step: int, names: Sequence[str], folder: Path) -> str:
    kept = sorted(path.name for path in folder.glob("*.safetensors"))
    last = f"the last good file is {folder / kept[-1]}" if kept else "no file had been saved yet"
    return (
        f"optimizer.learning_rate: total_loss is not finite at step {step} (images {', '.join(names)}); "
        f"lower the learning rate or use mixed_precision no; {last}"
    )
