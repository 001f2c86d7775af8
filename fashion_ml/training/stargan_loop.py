"""StarGAN v2 on VAE latents: set-up, and one visible loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from fashion_ml.config.stargan import StarganExperiment
from fashion_ml.data.stargan_batches import GanBatch, GanInputs
from fashion_ml.errors import InputError
from fashion_ml.losses.stargan import DS_EVERY, lambda_ds
from fashion_ml.models.ema import Averaged
from fashion_ml.models.stargan import Networks, NetworkSizes, make_networks
from fashion_ml.models.stargan_format import all_tensors, metadata_of, save_networks
from fashion_ml.runtime.console import bar
from fashion_ml.runtime.float32 import exact_float32
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.processes import wait_for_all
from fashion_ml.runtime.signals import stop_between_steps
from fashion_ml.training.checkpoints import CheckpointManager, SaveSettings
from fashion_ml.training.lr_schedule import lr_factor
from fashion_ml.training.memory_estimate import MemoryEstimate, peak_of_steps
from fashion_ml.training.next_batch import prepared_ahead
from fashion_ml.training.precision import DTYPES, compiled
from fashion_ml.training.skipped_steps import SKIPPED
from fashion_ml.training.stargan_step import LossWeights, d_losses, frozen, g_losses, make_fakes
from fashion_ml.training.train_state import TrainState
from fashion_ml.training.training_log import TERMS, EpochMeans, TrainingLog
from fashion_ml.training.warm_up import warm_up


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

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "networks": str(self.path),
            "steps": self.steps,
            "last_epoch": self.epochs[-1],
            "training_seconds": self.seconds,
            "parameters": self.parameters,
        }


def network_sizes(config: StarganExperiment, domains: int) -> NetworkSizes:
    """The sizes of an experiment's networks."""
    return NetworkSizes(**config.network.model_dump(), num_domains=domains)


def loss_weights(config: StarganExperiment) -> LossWeights:
    """The weights of an experiment's terms, each by its name without `w_`."""
    given = config.loss.model_dump(exclude={"w_ds", "ds_decay_epochs", "r1_counted_by"})
    return LossWeights(**{name.removeprefix("w_"): value for name, value in given.items()})


def train_stargan(
    config: StarganExperiment, inputs: GanInputs, folder: Path, hooks: GanHooks, accelerator: Any, *, resume: bool = False
) -> TrainedStargan:
    """Train, write `training_log.jsonl` and the networks into `folder`, and hand every epoch's values to `hooks.epoch`.

    An epoch has the means of its steps (`r1` counts the zeros of steps without it, `r1_computed` does not), `lambda_ds` and the learning
    rates; a term that was not computed is absent. With `resume` it goes on from the state in `folder`. InputError when a loss is not finite.
    """
    settings, shape, state = config.training, inputs.latents.shape, TrainState()
    domains, last_step = [domain.name for domain in inputs.latents.domains], settings.epochs * inputs.steps_per_epoch
    gan = _Gan(config, len(domains), accelerator)
    means = EpochMeans(
        folder / "training_logs" / "training_log.jsonl",
        steps_per_epoch=inputs.steps_per_epoch,
        skip_overflows=settings.mixed_precision == "fp16",
    )
    log = TrainingLog(
        folder, accelerator, means, names_of=inputs.names, last_step=last_step, flush_every=inputs.steps_per_epoch
    )

    def write(path: Path, step: int) -> None:
        facts = metadata_of(network_sizes(config, len(domains)), domains, shape, settings.latent_scale, step)
        save_networks(path, gan.networks, gan.averages, facts)

    checkpoints = CheckpointManager(
        folder,
        config.output.output_name,
        SaveSettings.of(settings.model_dump()),
        accelerator,
        state,
        log,
        last_step=last_step,
        write=write,
        tensors=all_tensors(gan.networks, gan.averages),
        optimizers=gan.optimizers,
        scalers=gan.scalers,
    )
    if resume:
        checkpoints.restore()
    with log.open(state.step), checkpoints.saved_when_stopped(), exact_float32(tf32=settings.tf32):
        _warm_up(config, inputs, gan, state)
        _loop(config, inputs, gan, hooks, means, log, checkpoints, state, accelerator)
        path = checkpoints.finish()
    return TrainedStargan(path, means.epochs, state.step, state.seconds, gan.networks.parameter_counts())


@dataclass(frozen=True)
class TimedSteps:
    """Wall seconds of a few steps."""

    plain: list[float]
    """Steps without the gradient penalty, in their order."""
    penalty_share: float
    """What the penalty adds to a step in the mean over r1_interval steps."""


def timed_gan_steps(config: StarganExperiment, inputs: GanInputs, accelerator: Any, *, most: int, seconds: float) -> TimedSteps:
    """Train for a moment: two steps at least, at most so many, no more when `seconds` are over, and two with the gradient penalty."""
    gan, weights, began = _Gan(config, len(inputs.latents.domains), accelerator), loss_weights(config), time.monotonic()

    def timed(step: int, with_r1: bool) -> float:
        started = time.monotonic()
        fading = lambda_ds(1, config.loss.w_ds, config.loss.ds_decay_epochs)
        with exact_float32(tf32=config.training.tf32):  # as a training does
            gan.step(inputs.batch(step), weights, with_r1=with_r1, lambda_ds=fading)
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize(accelerator.device)
        return time.monotonic() - started

    plain: list[float] = []
    while len(plain) < 2 or (len(plain) < most and time.monotonic() - began < seconds):
        plain.append(timed(len(plain) + 1, with_r1=False))
    if not weights.r1:
        return TimedSteps(plain, 0.0)
    penalised = [timed(len(plain) + more, with_r1=True) for more in (1, 2)]  # the first one chooses kernels
    return TimedSteps(plain, max(penalised[1] - min(plain), 0.0) / weights.r1_interval)


def stargan_memory(config: StarganExperiment, inputs: GanInputs) -> MemoryEstimate:
    """What a step with the gradient penalty needs, run without numbers; fp16 counts as bf16, which is as large."""
    training = config.training
    half = "bf16" if training.mixed_precision == "fp16" else training.mixed_precision
    plain = config.model_copy(update={"training": training.model_copy(update={"mixed_precision": half, "compile": "no"})})
    gan = _Gan(plain, len(inputs.latents.domains), SimpleNamespace(device=torch.device("cpu"), num_processes=1))
    sample, weights = inputs.batch(1), loss_weights(config)

    def make(new: dict[int, Any]) -> Callable[[], None]:
        for optimizer in gan.optimizers.values():
            for group in optimizer.param_groups:
                group["params"] = [new[id(weight)] for weight in group["params"]]
        shapes = {field.name: getattr(sample, field.name) for field in fields(GanBatch)}
        batch = GanBatch(**{name: torch.zeros(tuple(one.shape), dtype=one.dtype) for name, one in shapes.items()})

        def step() -> None:
            gan.step(batch, weights, with_r1=weights.r1 > 0, lambda_ds=config.loss.w_ds)

        return step

    models = [*gan.networks.named().values(), *(average.network for average in gan.averages.values())]
    return peak_of_steps(models, make, autocast=half != "no")


def _warm_up(config: StarganExperiment, inputs: GanInputs, gan: _Gan, state: TrainState) -> None:
    """A step that moves nothing, with the diversity loss and without it as far as they are to come, where training.compile is not no."""
    first, last = state.step + 1, config.training.epochs * inputs.steps_per_epoch
    if config.training.compile == "no" or first > last:
        return
    weights, epochs = loss_weights(config), range(inputs.epoch(first), config.training.epochs + 1)
    fading = {lambda_ds(epoch, config.loss.w_ds, config.loss.ds_decay_epochs) for epoch in epochs}
    kinds = {tr("with the diversity loss"): max(fading)} if max(fading) > 0 else {}
    kinds |= {tr("without the diversity loss"): 0.0} if min(fading) == 0 else {}
    work = {name: partial(gan.try_step, inputs.batch(first), weights, lambda_ds=one) for name, one in kinds.items()}
    warm_up(tr("compile"), work, state, gan.device)


def _loop(
    config: StarganExperiment,
    inputs: GanInputs,
    gan: _Gan,
    hooks: GanHooks,
    means: EpochMeans,
    log: TrainingLog,
    checkpoints: CheckpointManager,
    state: TrainState,
    accelerator: Any,
) -> None:
    weights, last_step = loss_weights(config), config.training.epochs * inputs.steps_per_epoch
    by_epoch = config.loss.r1_counted_by == "epoch"
    with (
        bar(tr("train StarGAN"), last_step, done=state.step) as progress,
        prepared_ahead(inputs.batch, last_step, accelerator.device) as batch_of,
        stop_between_steps(accelerator) as stop,
    ):
        if accelerator.is_main_process and hooks.grid and state.step == 0:
            hooks.grid(0, gan.averaged())
        wait_for_all(accelerator, wanted=state.step == 0)
        for step in range(state.step + 1, last_step + 1):
            epoch, epoch_ends, in_epoch = inputs.epoch(step), step % inputs.steps_per_epoch == 0, inputs.step_of_epoch(step)
            fading = lambda_ds(epoch, config.loss.w_ds, config.loss.ds_decay_epochs)

            # Batch
            gan.set_rates(step, last_step)
            b = batch_of(step)

            # Loss, backward and step of D, then of G, E and F together; averages follow
            terms = gan.step(
                b,
                weights,
                with_r1=(in_epoch if by_epoch else step) % weights.r1_interval == 0 and weights.r1 > 0,
                lambda_ds=fading,
                measure_ds=(in_epoch - 1) % DS_EVERY == 0,
            )
            state.step = step

            # Log, at the end of an epoch its means, and then measure: grids
            log.add(step, terms, {})
            note = ""
            if epoch_ends:
                row = {"epoch": float(epoch), **_means(means, log, step), "lambda_ds": fading, **gan.rates()}
                means.write(row)
                note = f"epoch {epoch} d_loss {row['d_loss']:.3f} g_loss {row['g_loss']:.3f}"
                if accelerator.is_main_process:
                    hooks.epoch(row)
                drawn = epoch % config.training.grid_every_n_epochs == 0 or step == last_step
                if accelerator.is_main_process and hooks.grid and drawn:
                    hooks.grid(epoch, gan.averaged())
                wait_for_all(accelerator, wanted=drawn)
            progress.advance(note=note)

            # Save, and stop if asked to
            checkpoints.after_step(epoch, epoch_ends)
            stop.check(last=step == last_step)


def _means(means: EpochMeans, log: TrainingLog, step: int) -> dict[str, float]:
    try:
        return means.epoch_values()
    except ValueError as error:
        raise InputError(log.not_finite(str(error), step)) from None


class _Gan:
    """Networks, averages and optimisers, and how a step is taken."""

    def __init__(self, config: StarganExperiment, domains: int, accelerator: Any):
        rates, self._config, self._accelerator = config.optimizer, config, accelerator
        self.networks = n = make_networks(network_sizes(config, domains), config.training.seed)
        for network in n.named().values():
            network.to(accelerator.device).train()
        averaged = ("generator", "style_encoder", "mapping")
        self.averages = {name: Averaged(n.named()[name], config.training.ema_decay) for name in averaged}
        lr_g, lr_d = rates.lr_g or rates.learning_rate, rates.lr_d or rates.learning_rate
        self._peaks = {"lr_g": lr_g, "lr_d": lr_d, "lr_mapping": rates.lr_mapping}
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
        device, dtype = accelerator.device.type, DTYPES[config.training.mixed_precision]
        self._autocast = nullcontext if dtype == torch.float32 else partial(torch.autocast, device, dtype)
        self.scalers = {name: torch.amp.GradScaler(device, enabled=dtype == torch.float16) for name in self.optimizers}
        self._overflows, self.device = dtype == torch.float16, accelerator.device
        self._called = n if config.training.compile == "no" else _compiled(n, config.training.compile)

    def step(
        self, b: GanBatch, weights: LossWeights, *, with_r1: bool, lambda_ds: float, measure_ds: bool = False
    ) -> dict[str, torch.Tensor]:
        """One step: D, then G, E and F, then the averages. Returns what was computed of TERMS, 0-d on the device."""
        n, plain = self._called, self.networks
        with self._autocast():
            made = make_fakes(n, b)
            d_loss, d_terms = d_losses(plain if with_r1 else n, b, made, weights, with_r1=with_r1)
        skipped = [self._update("d", d_loss, plain.d.parameters())]
        with self._autocast(), frozen(plain.d):
            g_loss, g_terms = g_losses(n, b, made, weights, lambda_ds=lambda_ds, measure_ds=measure_ds)
        skipped.append(self._update("g", g_loss, [p for network in (plain.g, plain.e, plain.f) for p in network.parameters()]))
        for name, average in self.averages.items():
            average.update(plain.named()[name])
        terms = {**d_terms, **g_terms}
        left_out = {SKIPPED: torch.stack([one for one in skipped if one is not None]).max()} if self._overflows else {}
        return {name: terms[name] for name in TERMS if name in terms and (name != "r1" or with_r1)} | left_out

    def try_step(self, b: GanBatch, weights: LossWeights, *, lambda_ds: float) -> None:
        """What a step computes, forward and backward, without any of it: the vectors of spectral norms, which a pass moves, are put back."""
        n, plain = self._called, self.networks
        buffers = [(one, one.clone()) for network in plain.named().values() for one in network.buffers()]
        with self._autocast():
            made = make_fakes(n, b)
            d_loss, _ = d_losses(n, b, made, weights, with_r1=False)
        d_loss.backward()
        with self._autocast(), frozen(plain.d):
            g_loss, _ = g_losses(n, b, made, weights, lambda_ds=lambda_ds, measure_ds=True)
        g_loss.backward()
        for network in plain.named().values():
            network.zero_grad()
        for one, before in buffers:
            one.copy_(before)

    def _update(self, name: str, loss: torch.Tensor, parameters: Any) -> torch.Tensor | None:
        """Backward and step; with fp16 whether the scaler leaves the step out, 0-d on the device."""
        scaler, optimizer, own = self.scalers[name], self.optimizers[name], list(parameters)
        scaler.scale(loss).backward()
        if self._accelerator.num_processes > 1:
            self._share(own)
        skipped = None
        if self._overflows:
            scaler.unscale_(optimizer)
            norm = torch.nn.utils.get_total_norm([one.grad for one in own if one.grad is not None])
            skipped = (~norm.isfinite()).float()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return skipped

    def _share(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Mean of the gradients over processes, in one message: exact through the penalty's second derivative, which DDP's hooks are not."""
        with_gradient = [p for p in parameters if p.grad is not None]
        flat = torch.cat([p.grad.reshape(-1) for p in with_gradient if p.grad is not None])
        flat = self._accelerator.reduce(flat, reduction="mean")
        for parameter, part in zip(with_gradient, flat.split([p.numel() for p in with_gradient]), strict=True):
            parameter.grad = part.view_as(parameter).clone()

    def set_rates(self, step: int, total: int) -> None:
        """The learning rates of a step."""
        settings = self._config.optimizer
        factor = lr_factor(
            step,
            shape=settings.lr_scheduler,
            warmup_steps=settings.lr_warmup_steps,
            total_steps=total,
            least=settings.min_lr_ratio,
        )
        self.optimizers["d"].param_groups[0]["lr"] = self._peaks["lr_d"] * factor
        for group, name in zip(self.optimizers["g"].param_groups, ("lr_g", "lr_mapping"), strict=True):
            group["lr"] = self._peaks[name] * factor

    def rates(self) -> dict[str, float]:
        """The learning rates as they are."""
        g, mapping = (group["lr"] for group in self.optimizers["g"].param_groups)
        return {"lr_g": g, "lr_d": self.optimizers["d"].param_groups[0]["lr"], "lr_mapping": mapping}

    def averaged(self) -> Networks:
        """The averaged networks, and D as it is."""
        g, e, f = (self.averages[name].network for name in ("generator", "style_encoder", "mapping"))
        return Networks(g, e, f, self.networks.d)


def _compiled(n: Networks, mode: str) -> Networks:
    """All four compiled; on steps with the penalty, whose gradient has a gradient, D is called as it is."""
    n.g.encode, n.g.decode = compiled(n.g.encode, mode), compiled(n.g.decode, mode)  # type: ignore[method-assign]
    return Networks(n.g, compiled(n.e, mode), compiled(n.f, mode), compiled(n.d, mode))
