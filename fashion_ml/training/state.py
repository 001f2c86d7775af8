"""What resuming needs, in one file: LoRA weights, optimiser, step, and what was measured so far. There is no random state to keep."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fashion_ml.checkpoint import atomic_path
from fashion_ml.errors import InputError

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
