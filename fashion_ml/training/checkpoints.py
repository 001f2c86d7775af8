"""The files a training keeps: LoRA files at intervals, the best by val_loss, and the state to resume from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fashion_ml.config import LoraExperiment
from fashion_ml.errors import InputError
from fashion_ml.models.ema import Averaged
from fashion_ml.models.kohya_format import lora_tensors, save_lora
from fashion_ml.models.lora import LoraParameters, LoraSpec
from fashion_ml.models.stargan import Networks, NetworkSizes
from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.redact import first_line
from fashion_ml.training.precision import DTYPES
from fashion_ml.training.training_log import TrainingLog


class CheckpointManager:
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
            save_lora(path, tensors, self._metadata(step), DTYPES[self._config.output.save_precision])
        return path

    def after_step(self, step: int, epoch: int, epoch_ends: bool, record: TrainingLog) -> None:
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

    def best(self, step: int, val_loss: float, record: TrainingLog) -> None:
        """Keep the weights as `best.safetensors` when val_loss is the lowest so far."""
        if math.isfinite(val_loss) and (record.best is None or val_loss < record.best[1]):
            record.best = (step, val_loss)
            self.lora("best", step)

    def state(self, step: int, record: TrainingLog) -> None:
        """Write what resuming needs."""
        record.flush()
        self._state_at = time.monotonic()
        if self._accelerator.is_main_process:
            scaler = self._accelerator.scaler
            extra = {
                "record": record.to_dict(),
                "intermediate": [path.name for path in self._intermediate],
                "scaler": scaler.state_dict() if scaler is not None else None,
            }
            save_state(self._folder / STATE, step, self._parameters.all, self._optimizer.state_dict(), extra)

    def restore(self, record: TrainingLog) -> int:
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


STATE = Path("state") / "training_state.safetensors"
"""Below a run's output folder."""


@dataclass(frozen=True)
class TrainingState:
    """The state after `step` optimiser steps."""

    step: int
    parameters: list[torch.Tensor]
    optimizer: dict[str, Any]
    """As `optimizer.state_dict()` gave it."""
    extra: dict[str, Any]
    """What JSON can hold: loss series, validation, gradient scaler."""


def save_state(
    path: Path, step: int, parameters: Sequence[torch.Tensor], optimizer: Mapping[str, Any], extra: Mapping[str, Any]
) -> None:
    """Write the state atomically; the one before stays until then."""
    from safetensors.torch import save_file

    tensors = {f"parameter.{index:05d}": tensor.detach().cpu().contiguous() for index, tensor in enumerate(parameters)}
    plain: dict[str, dict[str, Any]] = {}
    for index, entry in optimizer["state"].items():
        for name, value in entry.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{index}.{name}"] = value.detach().cpu().contiguous()
            else:
                plain.setdefault(str(index), {})[name] = value
    meta = {"step": step, "optimizer": plain, "groups": optimizer["param_groups"], "extra": dict(extra)}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {"state": json.dumps(meta)})


def state_step(path: Path) -> int:
    """The step of a state, from its header alone; 0 when there is none, or it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return int(json.loads((file.metadata() or {})["state"])["step"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return 0


def load_state(path: Path) -> TrainingState:
    """Read a state. InputError when the file is missing or is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except FileNotFoundError:
        raise InputError(f"resume: {str(path)!r} does not exist; give a run's output folder, or start with --new") from None
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"resume: {str(path)!r} is no training state ({error}); give another, or start with --new") from None
    state: dict[int, dict[str, Any]] = {int(index): dict(entry) for index, entry in meta["optimizer"].items()}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    for group in meta["groups"]:
        if "betas" in group:
            group["betas"] = tuple(group["betas"])
    names = sorted(name for name in tensors if name.startswith("parameter."))
    return TrainingState(
        meta["step"], [tensors[name] for name in names], {"state": state, "param_groups": meta["groups"]}, meta["extra"]
    )


_APART = 100_000
"""Parameters of the second optimiser are numbered from here."""


def save_networks(path: Path, networks: Networks, averages: Mapping[str, Averaged], metadata: Mapping[str, str]) -> None:
    """Write the networks (`generator.…`) and their averages (`ema.generator.…`) atomically as .safetensors."""
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    for name, network in networks.named().items():
        tensors |= {f"{name}.{key}": value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    for name, average in averages.items():
        tensors |= {
            f"ema.{name}.{key}": value.detach().cpu().contiguous() for key, value in average.network.state_dict().items()
        }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, dict(metadata))


def load_averages(path: Path, networks: Networks) -> Networks:
    """The networks with the averaged weights of a file, for grids and evaluations. InputError when the file does not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
        for name, network in networks.named().items():
            prefix = f"ema.{name}." if name != "discriminator" else "discriminator."
            own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            network.load_state_dict(own)
            network.eval().requires_grad_(False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(
            f"stargan: {str(path)!r} does not hold these networks ({first_line(error)}); use the run's own file"
        ) from None
    return networks


def metadata_of(sizes: NetworkSizes, domains: list[str], shape: tuple[int, ...], scale: float, step: int) -> dict[str, str]:
    """What a file of networks says about itself."""
    facts = {"sizes": vars(sizes), "domains": domains, "latent_shape": shape, "latent_scale": scale, "step": step}
    return {"format": "pt", "stargan": json.dumps(facts)}


def save_training(
    path: Path,
    step: int,
    networks: Networks,
    averages: Mapping[str, Averaged],
    optimizers: Mapping[str, torch.optim.Optimizer],
    extra: Mapping[str, Any],
) -> None:
    """Write everything that a resumed training needs, atomically."""
    state: dict[int, Any] = {}
    groups: list[dict[str, Any]] = []
    for number, (name, optimizer) in enumerate(optimizers.items()):
        plain = optimizer.state_dict()
        state |= {number * _APART + index: entry for index, entry in plain["state"].items()}
        groups += [{**group, "optimizer": name} for group in plain["param_groups"]]
    save_state(path, step, _tensors(networks, averages), {"state": state, "param_groups": groups}, extra)


def load_training(
    path: Path, networks: Networks, averages: Mapping[str, Averaged], optimizers: Mapping[str, torch.optim.Optimizer]
) -> tuple[int, dict[str, Any]]:
    """Take over a state; returns its step and what was kept beside. InputError when it is of other networks."""
    saved = load_state(path)
    tensors = _tensors(networks, averages)
    if [tuple(t.shape) for t in saved.parameters] != [tuple(t.shape) for t in tensors]:
        raise InputError(f"resume: {str(path)!r} holds networks of another size; give the same settings, or --new")
    with torch.no_grad():
        for tensor, value in zip(tensors, saved.parameters, strict=True):
            tensor.copy_(value)
    for number, (name, optimizer) in enumerate(optimizers.items()):
        first = number * _APART
        groups = [group for group in saved.optimizer["param_groups"] if group["optimizer"] == name]
        own = {index - first: entry for index, entry in saved.optimizer["state"].items() if first <= index < first + _APART}
        plain = [{key: value for key, value in group.items() if key != "optimizer"} for group in groups]
        optimizer.load_state_dict({"state": own, "param_groups": plain})
    return saved.step, saved.extra


def _tensors(networks: Networks, averages: Mapping[str, Averaged]) -> list[torch.Tensor]:
    found = [tensor for network in networks.named().values() for tensor in network.state_dict().values()]
    return found + [tensor for average in averages.values() for tensor in average.network.state_dict().values()]
