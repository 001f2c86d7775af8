"""What a StarGAN training keeps: networks and their averages, optimisers, step, and the sums of the epoch it is in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fashion_ml.checkpoint import atomic_path
from fashion_ml.errors import InputError
from fashion_ml.models.ema import Averaged
from fashion_ml.models.stargan import Networks, NetworkSizes
from fashion_ml.training.state import load_state, save_state

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
        reason = str(error).splitlines()[0]
        raise InputError(f"stargan: {str(path)!r} does not hold these networks ({reason}); use the run's own file") from None
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
