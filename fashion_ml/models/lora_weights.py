"""How large what a LoRA file adds is, and where: the norm and the effective rank of each module's update, by block of the model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from fashion_ml.models.lora_delta import FULL, HADAMARD, KRONECKER, LORA, alpha_in, delta, method_of, rank_of

_BLOCKS: tuple[tuple[str, str], ...] = (
    (r"(?:te2|text_encoder_2).*?layers_(\d+)_", "text2 {}"),
    (r"(?:te\d?|text_encoder|text_model).*?layers_(\d+)_", "text {}"),
    (r"down_blocks_(\d+)_", "down {}"),
    (r"input_blocks_(\d+)_", "input {}"),
    (r"mid_block|middle_block()", "mid"),
    (r"up_blocks_(\d+)_", "up {}"),
    (r"output_blocks_(\d+)_", "output {}"),
)
_KINDS: tuple[tuple[str, str], ...] = (
    (r"attn1_|self_attn_", "self-attention"),
    (r"attn2_", "cross-attention"),
    (r"_ff_net_|_mlp_fc", "feed-forward"),
    (r"_proj_(in|out)$", "projections"),
    (r"conv|_(in|out)_layers_|_0_op$|skip_connection", "convolutions"),
)
KINDS = (*(kind for _, kind in _KINDS), "other")


@dataclass(frozen=True)
class Update:
    """What one module adds."""

    block: str
    """`down 0`, `input 4`, `mid`, `up 3`, `output 5`, `text 11`, `text2 31` of a second text encoder, or `other`."""
    kind: str
    norm: float
    """Frobenius, of scale x update; NaN where the file's numbers are none."""
    effective_rank: float | None
    """exp of the entropy of the normalised singular values (Roy and Vetterli 2007), in [1, rank]; None where it is 0, or no plain LoRA."""
    scale: float


@torch.no_grad()
def measure_updates(modules: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, Update]:
    """By module, of parts as a LoRA's file has them (`down`, `up`, `alpha`, `hada_…`); without DoRA's magnitudes, which the base decides.
    Left out are modules whose update needs the base's shape or weight."""
    found = {}
    for name, parts in modules.items():
        rank = rank_of(parts)
        scale = alpha_in(parts.get("alpha"), rank) / rank if rank else 1.0
        values = _singular_values(parts)
        if values is None:
            made = _made(parts)
            if made is not None:
                found[name] = Update(_block(name), _kind(name), scale * float(made.norm()), None, scale)
            continue
        found[name] = Update(_block(name), _kind(name), abs(scale) * float(values.norm()), effective_rank(values), scale)
    return found


def effective_rank(values: torch.Tensor) -> float | None:
    """exp(-sum p log p) of singular values [r], p their shares of the sum; None of zeros."""
    total = values.sum()
    if not total > 0:
        return None
    shares = values / total
    return float(torch.exp(torch.special.entr(shares).sum()))


def _singular_values(parts: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """Of up @ down, from their triangular factors: as many as the rank."""
    if method_of(parts) != LORA:
        return None
    up, down = parts["up"].flatten(1).double(), parts["down"].flatten(1).double()
    if not (up.isfinite().all() and down.isfinite().all()):
        return torch.full((len(down),), float("nan"), dtype=torch.float64)
    return torch.linalg.svdvals(torch.linalg.qr(up).R @ torch.linalg.qr(down.T).R.T)


def _made(parts: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    method = method_of(parts)
    if method == HADAMARD and "hada_t1" not in parts:
        shape = (parts["hada_w1_a"].shape[0], parts["hada_w1_b"].flatten(1).shape[1])
        return delta(parts, shape)
    if method == KRONECKER and "lokr_t2" not in parts:
        first = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"].float() @ parts["lokr_w1_b"].float()
        second = parts["lokr_w2"] if "lokr_w2" in parts else parts["lokr_w2_a"].float() @ parts["lokr_w2_b"].float()
        return first.float().norm() * second.float().norm()  # of a Kronecker product
    return parts["diff"].float() if method == FULL and "diff" in parts else None


def _block(name: str) -> str:
    flat = name.replace(".", "_")
    for pattern, label in _BLOCKS:
        match = re.search(pattern, flat)
        if match:
            return label.format(*(group for group in match.groups() if group))
    return "other"


def _kind(name: str) -> str:
    flat = name.replace(".", "_")
    return next((kind for pattern, kind in _KINDS if re.search(pattern, flat)), "other")
