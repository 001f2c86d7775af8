"""StarGAN v2 on VAE latents: set-up, and one visible loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fashion_ml.config.stargan import StarganExperiment
from fashion_ml.data.stargan_batches import GanBatch, GanInputs
from fashion_ml.errors import InputError
from fashion_ml.losses.stargan import lambda_ds
from fashion_ml.models.ema import Averaged
from fashion_ml.models.stargan import Networks, NetworkSizes, make_networks
from fashion_ml.reports.stargan_log import EpochLog
from fashion_ml.runtime.console import bar
from fashion_ml.runtime.signals import StopNow, not_interrupted, stop_between_steps
from fashion_ml.training.checkpoints import STATE, load_training, metadata_of, save_networks, save_training
from fashion_ml.training.lr_schedule import lr_factor
from fashion_ml.training.precision import DTYPES
from fashion_ml.training.stargan_step import LossWeights, d_losses, frozen, g_losses, make_fakes

TERMS = ("d_loss", "g_loss", "g_adv", "sty", "ds", "cyc", "id", "r1")


@dataclass(frozen=True)
class GanHooks:
    """What the loop hands out, called by the main process only."""

    epoch: Callable[[dict[str, float]], None]
    """Gets `epoch` and the values of each finished epoch."""
    grid: Callable[[int, Networks], None] | None = None
    """Draws grids with the averaged networks."""


@dataclass(frozen=True)
class TrainedStargan:
    """What a training leaves."""

    path: Path
    epochs: list[dict[str, float]]
    steps: int
    seconds: float
    """Wall time of the loop alone, over all parts of a training that was stopped and resumed."""
    parameters: dict[str, int]
    """Trained numbers by network."""


def network_sizes(config: StarganExperiment, domains: int) -> NetworkSizes:
    """The sizes of an experiment's networks."""
    return NetworkSizes(**config.network.model_dump(), num_domains=domains)


def loss_weights(config: StarganExperiment) -> LossWeights:
    """The weights of an experiment's terms, each by its name without `w_`."""
    given = config.loss.model_dump(exclude={"w_ds", "ds_decay_epochs"})
    return LossWeights(**{name.removeprefix("w_"): value for name, value in given.items()})


def train_stargan(
    config: StarganExperiment, inputs: GanInputs, folder: Path, hooks: GanHooks, accelerator: Any, *, resume: bool = False
) -> TrainedStargan:
    """Train, write `training_log.jsonl` and the networks into `folder`, and hand every epoch's values to `hooks.epoch`.

    An epoch has the means of its steps (`r1` counts the zeros of steps without it, `r1_computed` does not), `lambda_ds` and the learning
    rates; a term that was not computed is absent. With `resume` it goes on from the state in `folder`. InputError when a loss is not finite.
    """
    settings, device = config.training, accelerator.device
    latents, weights = inputs.latents, loss_weights(config)
    sizes = network_sizes(config, len(latents.domains))
    n = make_networks(sizes, settings.seed)
    for network in n.named().values():
        network.to(device).train()
    averages = {name: Averaged(n.named()[name], settings.ema_decay) for name in ("generator", "style_encoder", "mapping")}
    loop = _Loop(config, n, averages, accelerator, inputs.steps_per_epoch)
    names = [domain.name for domain in latents.domains]
    name, total = config.output.output_name, settings.epochs * inputs.steps_per_epoch
    done, kept, before = loop.restore(folder / STATE) if resume else (0, [], 0.0)
    log = EpochLog(folder / "training_logs" / "training_log.jsonl", after_epoch=done // inputs.steps_per_epoch)
    epochs, began, saved_at = log.rows, time.monotonic(), time.monotonic()

    def save() -> None:
        nonlocal saved_at
        saved_at = time.monotonic()
        loop.require_finite(done, inputs.names)
        sums = loop.sums_to_dict()
        if accelerator.is_main_process:
            seconds = before + time.monotonic() - began
            extra = {"sums": sums, "kept": kept, "scalers": loop.scaler_states(), "seconds": seconds}
            save_training(folder / STATE, done, n, averages, loop.optimizers, extra)

    def keep(stem: str, step: int) -> Path:
        path = folder / f"{stem}.safetensors"
        if accelerator.is_main_process:
            save_networks(path, n, averages, metadata_of(sizes, names, latents.shape, settings.latent_scale, step))
        return path

    try:
        with bar("train StarGAN", total, done=done) as progress, stop_between_steps() as stop:
            for step in range(done + 1, total + 1):
                epoch, last_of_epoch = inputs.epoch(step), step % inputs.steps_per_epoch == 0
                fading = lambda_ds(epoch, config.loss.w_ds, config.loss.ds_decay_epochs)
                loop.set_rates(step, total)

                # Batch, D step, then G, E and F together; averages follow
                b = inputs.batch(step)
                loop.step(b, weights, with_r1=step % weights.r1_interval == 0 and weights.r1 > 0, lambda_ds=fading)
                done = step

                # Log at the end of an epoch
                note = ""
                if last_of_epoch:
                    loop.require_finite(step, inputs.names)
                    row = {"epoch": float(epoch), **loop.epoch_values(), "lambda_ds": fading, **loop.rates()}
                    epochs.append(row)
                    note = f"epoch {epoch} d_loss {row['d_loss']:.3f} g_loss {row['g_loss']:.3f}"
                    if accelerator.is_main_process:
                        log.write(row)
                        hooks.epoch(row)
                        if hooks.grid and (epoch % settings.grid_every_n_epochs == 0 or step == total):
                            hooks.grid(epoch, _averaged(averages, n))
                progress.advance(note=note)

                # Save, and stop if asked to
                every = settings.save_every_n_epochs
                if last_of_epoch and every and epoch % every == 0 and step < total:
                    path = keep(f"{name}-{epoch:06d}", step)
                    kept = [*kept, path.name]
                    _drop(folder, kept, settings.save_last_n)
                    if settings.save_state:
                        save()
                elif settings.save_state and (time.monotonic() - saved_at) / 60 >= settings.save_state_minutes:
                    save()
                stop.check(accelerator)
        path = keep(name, total)
        if settings.save_state:
            save()
    except KeyboardInterrupt as stopped:
        if done and not isinstance(stopped, StopNow):
            with not_interrupted():  # `mlflow run` sends a second signal at once
                save()
                keep(f"{name}-step{done:08d}", done)
        raise
    return TrainedStargan(path, epochs, done, before + time.monotonic() - began, n.parameter_counts())


class _Loop:
    """Networks, optimisers and the sums of the running epoch."""

    def __init__(
        self, config: StarganExperiment, n: Networks, averages: dict[str, Averaged], accelerator: Any, steps_per_epoch: int
    ):
        rates, self._config, self._n, self._averages = config.optimizer, config, n, averages
        self._accelerator, self._device, self._steps_per_epoch = accelerator, accelerator.device, steps_per_epoch
        lr_g, lr_d = rates.lr_g or rates.learning_rate, rates.lr_d or rates.learning_rate
        self.peaks = {"lr_g": lr_g, "lr_d": lr_d, "lr_mapping": rates.lr_mapping}
        options = {"betas": (0.0, 0.99), "weight_decay": rates.weight_decay, "fused": True}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "d": torch.optim.AdamW(n.d.parameters(), lr=lr_d, **options),  # type: ignore[arg-type]
            "g": torch.optim.AdamW(
                [
                    {"params": [*n.g.parameters(), *n.e.parameters()], "lr": lr_g},
                    {"params": list(n.f.parameters()), "lr": rates.lr_mapping},
                ],
                **options,  # type: ignore[arg-type]
            ),
        }
        dtype = DTYPES[config.training.mixed_precision]
        self._autocast = nullcontext if dtype == torch.float32 else partial(torch.autocast, self._device.type, dtype)
        self._scaled = config.training.mixed_precision == "fp16"
        self._scalers = {name: torch.amp.GradScaler(self._device.type, enabled=self._scaled) for name in self.optimizers}
        self._called = _compiled(n) if config.training.compile else n
        self._sums = torch.zeros(len(TERMS), dtype=torch.float64, device=self._device)
        self._overflows, self._r1_counted = torch.zeros((2,), dtype=torch.float64, device=self._device)
        self._counts, self._steps = dict.fromkeys(TERMS, 0), 0

    def step(self, b: GanBatch, weights: LossWeights, *, with_r1: bool, lambda_ds: float) -> None:
        """One step: D, then G, E and F, then the averages; adds the terms to the epoch's sums."""
        n = self._called
        with self._autocast():
            made = make_fakes(n, b)
            d_loss, d_terms = d_losses(n, b, made, weights, with_r1=with_r1)
        self._update("d", d_loss, self._n.d.parameters())
        with self._autocast(), frozen(self._n.d):
            g_loss, g_terms = g_losses(n, b, made, weights, lambda_ds=lambda_ds)
        self._update("g", g_loss, [p for network in (self._n.g, self._n.e, self._n.f) for p in network.parameters()])
        for name, average in self._averages.items():
            average.update(self._n.named()[name])

        terms = {**d_terms, **g_terms}
        values = torch.stack([terms[name].double() if name in terms else self._sums.new_zeros(()) for name in TERMS])
        finite = values.isfinite().all() if self._scaled else torch.ones((), dtype=torch.bool, device=self._device)
        if self._scaled:  # the scalers leave out a step that overflows fp16, and so do the means
            self._overflows += ~finite
            values = torch.where(finite, values, torch.zeros_like(values))
        self._sums += values
        if with_r1:
            self._r1_counted += finite
        for name in terms:
            self._counts[name] += 1
        self._steps += 1

    def _update(self, name: str, loss: torch.Tensor, parameters: Any) -> None:
        scaler, optimizer = self._scalers[name], self.optimizers[name]
        scaler.scale(loss).backward()
        if self._accelerator.num_processes > 1:
            self._share(list(parameters))
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    def _share(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Mean of the gradients over processes, in one message: exact through the penalty's second derivative, which DDP's hooks are not."""
        with_gradient = [p for p in parameters if p.grad is not None]
        flat = torch.cat([p.grad.reshape(-1) for p in with_gradient if p.grad is not None])
        flat = self._accelerator.reduce(flat, reduction="mean")
        for parameter, part in zip(with_gradient, flat.split([p.numel() for p in with_gradient]), strict=True):
            parameter.grad = part.view_as(parameter).clone()

    def require_finite(self, step: int, names: Callable[[int], list[str]]) -> None:
        """InputError when a term of the running epoch was not finite; called before anything is written."""
        bad = [name for name, value in zip(TERMS, self._sums.tolist(), strict=True) if not math.isfinite(value)]
        if self._scaled and self._overflows.item() > self._steps / 2:
            bad = ["loss of most steps"]
        if bad:
            raise InputError(
                f"optimizer.learning_rate: {', '.join(bad)} is not finite by step {step} (its contents: {', '.join(names(step)[:4])} …); lower "
                "the learning rates, or use mixed_precision no; the state and the files that were written before are good"
            )

    def epoch_values(self) -> dict[str, float]:
        """Means of the epoch that has ended over the steps of all processes that count, in one transfer, and the sums begin anew."""
        counted, r1_counted = (self._steps - self._overflows)[None], self._r1_counted[None]
        totals = torch.cat([self._sums, counted, r1_counted, self._overflows[None]])
        if self._accelerator.num_processes > 1:
            totals = self._accelerator.reduce(totals, reduction="sum")
        *sums, steps, r1_steps, overflows = totals.tolist()
        means = {name: total / steps for name, total in zip(TERMS, sums, strict=True)}
        values = {name: value for name, value in means.items() if self._counts[name]}
        if r1_steps:
            values["r1_computed"] = means["r1"] * steps / r1_steps
        if self._scaled:
            values["overflowed_steps"] = overflows / self._accelerator.num_processes
        for total in (self._sums, self._overflows, self._r1_counted):
            total.zero_()
        self._counts, self._steps = dict.fromkeys(TERMS, 0), 0
        return values

    def set_rates(self, step: int, total: int) -> None:
        """The learning rates of a step."""
        settings = self._config.optimizer
        factor = lr_factor(step, shape=settings.lr_scheduler, warmup_steps=settings.lr_warmup_steps, total_steps=total)
        self.optimizers["d"].param_groups[0]["lr"] = self.peaks["lr_d"] * factor
        for group, name in zip(self.optimizers["g"].param_groups, ("lr_g", "lr_mapping"), strict=True):
            group["lr"] = self.peaks[name] * factor

    def rates(self) -> dict[str, float]:
        """The learning rates as they are."""
        g, mapping = (group["lr"] for group in self.optimizers["g"].param_groups)
        return {"lr_g": g, "lr_d": self.optimizers["d"].param_groups[0]["lr"], "lr_mapping": mapping}

    def sums_to_dict(self) -> dict[str, Any]:
        """The running epoch, for the state: a row a process, of its sums, overflows and steps with R1 that count. Called by all processes."""
        own = torch.cat([self._sums, self._overflows[None], self._r1_counted[None]])[None]
        every = self._accelerator.gather(own) if self._accelerator.num_processes > 1 else own
        return {"sums": every.tolist(), "counts": self._counts, "steps": self._steps}

    def scaler_states(self) -> dict[str, Any]:
        """For the state."""
        return {name: scaler.state_dict() for name, scaler in self._scalers.items()}

    def restore(self, path: Path) -> tuple[int, list[str], float]:
        """Take over a state; returns its step, the files kept and the seconds spent so far; nothing when none had been written yet."""
        if not path.exists():
            return 0, [], 0.0
        step, extra = load_training(path, self._n, self._averages, self.optimizers)
        plain = extra["sums"]
        every = torch.tensor(plain["sums"], dtype=torch.float64)
        own = every[self._accelerator.process_index] if len(every) == self._accelerator.num_processes else every.mean(0)
        self._sums.copy_(own[: len(TERMS)])
        self._overflows.copy_(own[len(TERMS)])
        self._r1_counted.copy_(
            own[len(TERMS) + 1] if len(own) > len(TERMS) + 1 else plain["r1_steps"]
        )  # 0.1 counted every step
        self._counts, self._steps = dict(plain["counts"]), plain["steps"]
        for name, scaler in self._scalers.items():
            if extra["scalers"][name]:
                scaler.load_state_dict(extra["scalers"][name])
        return step, list(extra["kept"]), float(extra["seconds"])


def _averaged(averages: dict[str, Averaged], n: Networks) -> Networks:
    return Networks(averages["generator"].network, averages["style_encoder"].network, averages["mapping"].network, n.d)


def _compiled(n: Networks) -> Networks:
    """G, E and F compiled; D stays eager."""
    n.g.encode, n.g.decode = torch.compile(n.g.encode), torch.compile(n.g.decode)  # type: ignore[method-assign]
    return Networks(n.g, torch.compile(n.e), torch.compile(n.f), n.d)  # type: ignore[arg-type]


def _drop(folder: Path, kept: list[str], limit: int | None) -> None:
    while limit is not None and len(kept) > limit:
        (folder / kept.pop(0)).unlink(missing_ok=True)
