"""LoRA files as numbers: averages of checkpoints, sums of LoRAs, smaller ranks, and what one checkpoint has over another.

A file is plain LoRA in kohya's layout (`lora_down.weight` [r, in, …], `lora_up.weight` [out, r, …], `alpha`); an update is
alpha / r * up @ down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from fashion_ml.models.lora_delta import alpha_in
from fashion_ml.runtime.language import tr

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Resized:
    """A LoRA of smaller rank."""

    tensors: dict[str, torch.Tensor]
    kept: dict[str, float]
    """By module the share of its update's Frobenius norm that is left, in [0, 1]; 1 where the update is 0."""
    ranks: dict[str, int]


def updates_of(tensors: Tensors) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """By module lora_down and lora_up with the scale in lora_up, float32, so that the update is up @ down of the flattened matrices.

    ValueError, naming the tensor, for what is no plain LoRA in kohya's layout.
    """
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        module, _, part = name.partition(".")
        if part not in ("lora_down.weight", "lora_up.weight", "alpha"):
            raise ValueError(tr("it holds {name}, which is no plain LoRA", name=name))
        found.setdefault(module, {})[part] = tensor
    for module, parts in found.items():
        if not {"lora_down.weight", "lora_up.weight"} <= parts.keys():
            raise ValueError(tr("its module {module} lacks lora_down or lora_up", module=module))
    if not found:
        raise ValueError(tr("it holds no LoRA"))
    return {
        module: (
            parts["lora_down.weight"].float(),
            parts["lora_up.weight"].float() * (alpha_in(parts.get("alpha"), rank) / rank),
        )
        for module, parts in found.items()
        for rank in [len(parts["lora_down.weight"])]
    }


def average(files: Sequence[Tensors]) -> dict[str, torch.Tensor]:
    """The mean of each tensor over checkpoints of one training, as an average of the weights on the way would be (Izmailov et al. 2018,
    arXiv:1803.05407). ValueError when their tensors are not the same."""
    first = files[0]
    for other in files[1:]:
        if {name: tensor.shape for name, tensor in other.items()} != {name: tensor.shape for name, tensor in first.items()}:
            raise ValueError(tr("they are not of one training: their modules or ranks differ"))
        if unlike := next(
            (name for name in first if name.endswith(".alpha") and not torch.equal(other[name], first[name])), None
        ):
            raise ValueError(
                tr("they are not of one training: {unlike} differs, and with it what the numbers mean", unlike=unlike)
            )
    return {name: torch.stack([file[name].double() for file in files]).mean(dim=0).float() for name in first}


def weighted_sum(files: Sequence[Tensors], weights: Sequence[float]) -> dict[str, torch.Tensor]:
    """One LoRA that does what several do together, each at its weight: sum of w_i * update_i, exactly, for ranks are laid side by side.

    A module that some files lack is that of the others. ValueError for shapes that do not go together, or what is no plain LoRA.
    """
    parts: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for file, weight in zip(files, weights, strict=True):
        for module, (down, up) in updates_of(file).items():
            parts.setdefault(module, []).append((down, up * weight))
    result: dict[str, torch.Tensor] = {}
    for module, own in sorted(parts.items()):
        if len({(down.shape[1:], up.shape[:1] + up.shape[2:]) for down, up in own}) > 1:
            raise ValueError(tr("they are for different bases: {module} has other shapes", module=module))
        down, up = torch.cat([down for down, _ in own]), torch.cat([up for _, up in own], dim=1)
        result |= _module(module, down, up)
    return result


def resize(tensors: Tensors, rank: int | None = None, keep: float | None = None) -> Resized:
    """The nearest LoRA of at most `rank`, or of the smallest ranks that keep the share `keep` of each update's Frobenius norm (Eckart & Young
    1936); a module's rank never grows. Singular values go half into lora_up, half into lora_down. Give one of the two."""
    result: dict[str, torch.Tensor] = {}
    kept, ranks = dict[str, float](), dict[str, int]()
    for module, (down, up) in sorted(updates_of(tensors).items()):
        u, s, v = _svd_of_product(up.flatten(1).double(), down.flatten(1).double())
        wanted = min(rank if rank is not None else _rank_that_keeps(s, keep or 1.0), len(s))
        whole = s.norm()
        kept[module] = float(s[:wanted].norm() / whole) if whole > 0 else 1.0
        ranks[module] = wanted
        root = s[:wanted].sqrt()
        new_up, new_down = u[:, :wanted] * root, root[:, None] * v[:wanted]
        result |= _module(module, new_down.view(wanted, *down.shape[1:]), new_up.view(len(up), wanted, *up.shape[2:]))
    return Resized(result, kept, ranks)


def difference(base: torch.Tensor, tuned: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """The nearest update of at most `rank` from one weight [out, in, …] to another: lora_down [r, in, …], lora_up [out, r, 1, 1 of
    convolutions], and the share of the difference's Frobenius norm that it keeps, 1 where there is none."""
    delta = (tuned.double() - base.double()).flatten(1)
    u, s, v = torch.linalg.svd(delta, full_matrices=False)
    rank, root = min(rank, len(s)), s[: min(rank, len(s))].sqrt()
    whole = s.norm()
    down = (root[:, None] * v[:rank]).float().view(rank, *base.shape[1:])
    up = (u[:, :rank] * root).float().view(len(base), rank, *[1] * (base.dim() - 2))
    return down, up, float(s[:rank].norm() / whole) if whole > 0 else 1.0


def effective_rank(down: torch.Tensor, up: torch.Tensor) -> float:
    """Exp of the entropy of the update's singular values over their sum, from 1 to the rank; 0 of a zero update. Roy & Vetterli 2007."""
    s = _svd_of_product(up.flatten(1).double(), down.flatten(1).double())[1]
    if s.sum() == 0:
        return 0.0
    shares = s / s.sum()
    return math.exp(float(-(shares * shares.clamp(min=1e-300).log()).sum()))


def _svd_of_product(up: torch.Tensor, down: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Singular values of up @ down, at most r of them, without the large matrix: of two QR decompositions only r x r is decomposed."""
    q_up, r_up = torch.linalg.qr(up)
    q_down, r_down = torch.linalg.qr(down.T)
    u, s, v = torch.linalg.svd(r_up @ r_down.T, full_matrices=False)
    return q_up @ u, s, v @ q_down.T


def _rank_that_keeps(s: torch.Tensor, share: float) -> int:
    squares = s.square().cumsum(0)
    if squares[-1] == 0:
        return 1
    return int((squares < share**2 * squares[-1] * (1 - 1e-12)).sum()) + 1


def _module(module: str, down: torch.Tensor, up: torch.Tensor) -> dict[str, torch.Tensor]:
    """A module's tensors, of scale 1: its alpha is its rank."""
    return {
        f"{module}.lora_down.weight": down.float().contiguous(),
        f"{module}.lora_up.weight": up.float().contiguous(),
        f"{module}.alpha": torch.tensor(float(len(down))),
    }
