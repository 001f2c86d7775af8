"""What a training carries from step to step, and the file that it goes on from: `state/training_state.safetensors`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.input_file import check_regular
from fashion_ml.runtime.json_file import of_its_shape, parsed_mapping
from fashion_ml.runtime.language import tr

_APART = 100_000
"""Parameters of the second optimiser are numbered from here."""


@dataclass
class TrainState:
    """What travels through a loop beside weights and optimisers, and through a stop."""

    step: int = 0
    """Optimiser steps that are done."""
    kept: list[str] = field(default_factory=list)
    """Names of the intermediate files that are there, the oldest first."""
    best: tuple[int, float] | None = None
    """Step and val_loss of the best weights so far; None without validation."""
    val_loss: float | None = None
    """The last one measured."""
    base: dict[str, float] = field(default_factory=dict)
    """What validation measured without the LoRA."""
    seconds_before: float = 0.0
    """Wall time of the parts before this one."""
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Wall time of the training so far, over all its parts."""
        return self.seconds_before + time.monotonic() - self.began

    def to_dict(self) -> dict[str, Any]:
        """What the file keeps, for JSON; the step stands beside it."""
        return {
            "kept": self.kept,
            "best": self.best,
            "val_loss": self.val_loss,
            "base": self.base,
            "seconds": self.seconds,
        }

    def restore(self, step: int, plain: Mapping[str, Any]) -> None:
        """Take over what the file kept; time counts from here."""
        self.step, self.kept = step, list(plain["kept"])
        self.best = tuple(plain["best"]) if plain.get("best") else None
        self.val_loss, self.base = plain.get("val_loss"), dict(plain.get("base") or {})
        self.seconds_before, self.began = float(plain["seconds"]), time.monotonic()


@dataclass(frozen=True)
class SavedState:
    """A file's content after `step` optimiser steps."""

    step: int
    tensors: list[torch.Tensor]
    optimizer: dict[str, Any]
    """The `state_dict()`s of all optimisers in one, their groups marked with the optimiser's name."""
    extra: dict[str, Any]
    """What JSON can hold."""

    def restore(self, tensors: Sequence[torch.Tensor], optimizers: Mapping[str, Any]) -> None:
        """Write the values into a training's tensors and optimisers. ValueError when their shapes are others."""
        if [tuple(t.shape) for t in self.tensors] != [tuple(t.shape) for t in tensors]:
            raise ValueError(tr("the weights have other shapes"))
        with torch.no_grad():
            for tensor, value in zip(tensors, self.tensors, strict=True):
                tensor.copy_(value)
        for number, (name, optimizer) in enumerate(optimizers.items()):
            first, entries = number * _APART, self.optimizer["state"]
            own = {index - first: entry for index, entry in entries.items() if first <= index < first + _APART}
            groups = [group for group in self.optimizer["param_groups"] if group.get("optimizer", name) == name]
            plain = [{key: value for key, value in group.items() if key != "optimizer"} for group in groups]
            optimizer.load_state_dict({"state": own, "param_groups": plain})


def save_state(
    path: Path, step: int, tensors: Sequence[torch.Tensor], optimizers: Mapping[str, Any], extra: Mapping[str, Any]
) -> None:
    """Write the state atomically; the one before stays until then."""
    from safetensors.torch import save_file

    kept = {f"parameter.{index:05d}": tensor.detach().cpu().contiguous() for index, tensor in enumerate(tensors)}
    numbers: dict[str, dict[str, Any]] = {}
    groups: list[dict[str, Any]] = []
    for number, (optimizer_name, optimizer) in enumerate(optimizers.items()):
        plain = optimizer.state_dict()
        groups += [{**_plain(group), "optimizer": optimizer_name} for group in plain["param_groups"]]
        for index, entry in plain["state"].items():
            for name, value in entry.items():
                if isinstance(value, torch.Tensor):
                    kept[f"optimizer.{number * _APART + index}.{name}"] = value.detach().cpu().contiguous()
                else:
                    numbers.setdefault(str(number * _APART + index), {})[name] = value
    meta = {"step": step, "optimizer": numbers, "groups": groups, "extra": dict(extra)}
    with atomic_path(path) as temporary:
        save_file(kept, temporary, {"state": json.dumps(meta)})


def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
    """An optimiser's group as it is without CUDA graphs, which have rates as tensors: a run may go on in another mode."""
    found = {name: value.item() if isinstance(value, torch.Tensor) else value for name, value in group.items()}
    return {**found, "capturable": False} if "capturable" in found else found


def load_state(path: Path) -> SavedState:
    """Read a state. InputError when the file is missing or is none."""
    from safetensors import SafetensorError, safe_open

    try:
        check_regular(path)
        with safe_open(path, framework="pt") as file:
            meta = parsed_mapping((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except FileNotFoundError:
        raise InputError(
            tr("resume: {path!r} does not exist; give a run's output folder, or start with --new", path=str(path))
        ) from None
    except PermissionError as error:  # it may be a whole one: to start anew is no advice
        raise InputError(
            tr(
                "resume: {path!r} cannot be read ({strerror}); make it readable for this user",
                path=str(path),
                strerror=error.strerror,
            )
        ) from None
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            tr(
                "resume: {path!r} is no training state ({error}); give another, or start with --new",
                path=str(path),
                error=error,
            )
        ) from None
    with of_its_shape("resume", path, tr("give another, or start with --new")):
        return _saved(meta, tensors)


def _saved(meta: dict[str, Any], tensors: dict[str, torch.Tensor]) -> SavedState:
    state: dict[int, dict[str, Any]] = {int(index): dict(entry) for index, entry in meta["optimizer"].items()}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    for group in meta["groups"]:  # JSON has no tuples
        group |= {name: tuple(value) for name, value in group.items() if isinstance(value, list) and name != "params"}
    names = sorted(name for name in tensors if name.startswith("parameter."))
    optimizer, extra = {"state": state, "param_groups": meta["groups"]}, _by_todays_names(meta["extra"])
    for name in extra.get("train", {}).get("kept", ()):  # files that the training removes when there are newer ones
        if not isinstance(name, str) or not name.endswith(".safetensors") or {"/", "\\", "\0"} & set(name):
            raise ValueError(tr("{name:.80} is no name of a file", name=ascii(name)))
    return SavedState(meta["step"], [tensors[name] for name in names], optimizer, extra)


def _by_todays_names(extra: dict[str, Any]) -> dict[str, Any]:
    """What a state of 0.1 keeps beside its tensors, as `CheckpointManager` writes it today, so that a run goes on after an update."""
    if "record" in extra:  # of a LoRA
        record = extra["record"]
        series = {name: record[name] for name in ("total_loss", "image_losses")}
        return {"train": {**record, "kept": extra["intermediate"]}, "log": series, "scalers": {"lora": extra["scaler"]}}
    if "sums" in extra:  # of a StarGAN: a row a process, sums and then overflows
        plain = extra["sums"]
        rows = plain["sums"]
        *sums, overflows = [
            sum(column) / len(rows) for column in zip(*[row[: len(plain["counts"]) + 1] for row in rows], strict=True)
        ]
        means = dict(zip(plain["counts"], sums, strict=True))
        log = {
            "sums": {name: value for name, value in means.items() if plain["counts"][name]},
            "steps": plain["steps"] - overflows,
            "r1_steps": plain.get("r1_steps", 0),
            "overflows": overflows,
        }
        return {"train": {"kept": extra["kept"], "seconds": extra["seconds"]}, "log": log, "scalers": extra["scalers"]}
    return extra
