"""StarGAN files: the networks and their averages in one .safetensors, written and read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from fashion_ml.errors import InputError
from fashion_ml.models.ema import Averaged
from fashion_ml.models.stargan import Networks, NetworkSizes, make_networks, weight_shapes
from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.input_file import check_regular
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.redact import first_line
from fashion_ml.runtime.weight_files import read_header

_NORMED, _VECTOR = ".parametrizations.weight.original", ".parametrizations.weight.0."
"""What PyTorch calls weights under a spectral norm, and its vectors."""


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


def load_averages(path: Path, sizes: NetworkSizes) -> Networks:
    """The networks with the averaged weights of a file, for grids and evaluations. InputError when the file does not fit, before they are
    made."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        check_regular(path)
        _check_shapes(path, sizes)
        networks, tensors = make_networks(sizes, 0), load_file(path)
        for name, network in networks.named().items():
            prefix = _prefix(name)
            own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            network.load_state_dict(own)
            network.eval().requires_grad_(False)
    except (OSError, SafetensorError, RuntimeError, ValueError, OverflowError) as error:
        raise InputError(
            tr(
                "stargan: {path!r} does not hold these networks ({first_line}); use the run's own file",
                path=str(path),
                first_line=first_line(error),
            )
        ) from None
    return networks


def _check_shapes(path: Path, sizes: NetworkSizes) -> None:
    """ValueError, naming the first, where a file's weights have other names or shapes than networks of these sizes, as its head tells: they are
    not made for nothing, for sizes may be anything."""
    there = read_header(path, "stargan").shapes
    for name, wanted in weight_shapes(sizes).items():
        prefix, normed = _prefix(name), sizes.spectral_norm and name == "discriminator"
        own = {key.removeprefix(prefix): shape for key, shape in there.items() if key.startswith(prefix)}
        if normed:  # its vectors are of no size of their own
            own = {key.replace(_NORMED, ".weight"): shape for key, shape in own.items() if _VECTOR not in key}
        for key, shape in wanted.items():
            if key not in own:
                raise ValueError(tr("{key} is not there", key=f"{name}.{key}"))
            if own[key] != shape:
                raise ValueError(tr("{key} is {there}, not {shape}", key=f"{name}.{key}", there=own[key], shape=shape))
        if strange := sorted(own.keys() - wanted.keys()):
            raise ValueError(tr("{key} is not known", key=f"{name}.{strange[0][:80]}"))


def _prefix(name: str) -> str:
    """What the weights of a network that is loaded begin with in a file."""
    return f"ema.{name}." if name != "discriminator" else "discriminator."


def metadata_of(sizes: NetworkSizes, domains: list[str], shape: Sequence[int], scale: float, step: int) -> dict[str, str]:
    """What a file of networks says about itself."""
    facts = {"sizes": vars(sizes), "domains": domains, "latent_shape": shape, "latent_scale": scale, "step": step}
    return {"format": "pt", "stargan": json.dumps(facts)}


def all_tensors(networks: Networks, averages: Mapping[str, Averaged]) -> list[torch.Tensor]:
    """Every weight and buffer of the networks and then of their averages, in an order that does not change."""
    found = [tensor for network in networks.named().values() for tensor in network.state_dict().values()]
    return found + [tensor for average in averages.values() for tensor in average.network.state_dict().values()]
