"""What a module of a LoRA file adds to the weight of its base, by the method that made it.

LoRA: s B A (Hu et al. 2021, arXiv:2106.09685). LoCon with a core ("lora_mid"), LoHa and LoKr: Yeh et al. 2023, arXiv:2309.14859, sections
3.2 to 3.4; LoHa is FedPara's Hadamard product (Hyeon-Woo et al. 2021, arXiv:2108.06098), LoKr a Kronecker product. s is alpha / rank.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

LORA, TUCKER, HADAMARD, KRONECKER, FULL, NORM = (
    "LoRA",
    "LoCon with lora_mid",
    "LoHa",
    "LoKr",
    "full difference",
    "norm difference",
)

Parts = Mapping[str, torch.Tensor]


def method_of(parts: Parts) -> str | None:
    """The method of a module; None when parts are missing or do not belong together."""
    names = set(parts) - {"alpha", "dora_scale"}
    if names == {"down", "up"}:
        return LORA
    if names == {"down", "up", "mid"}:
        return TUCKER
    if names - {"hada_t1", "hada_t2"} == {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}:
        return HADAMARD if len(names) in (4, 6) else None
    first = names & {"lokr_w1", "lokr_w1_a", "lokr_w1_b"}
    second = names - first
    if first in ({"lokr_w1"}, {"lokr_w1_a", "lokr_w1_b"}) and second in (
        {"lokr_w2"},
        {"lokr_w2_a", "lokr_w2_b"},
        {"lokr_w2_a", "lokr_w2_b", "lokr_t2"},
    ):
        return KRONECKER
    if names and names <= {"diff", "diff_b"}:
        return FULL
    return NORM if names and names <= {"w_norm", "b_norm"} else None


def rank_of(parts: Parts) -> int | None:
    """The rank that alpha is divided by; None where nothing has one: a full difference, or LoKr of two whole factors."""
    for name in ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
        if name in parts:
            return int(parts[name].shape[0])
    return None


def delta(parts: Parts, shape: tuple[int, ...]) -> torch.Tensor:
    """What is added to a weight [out, in, ...] of `shape` at scale 1, float32. ValueError when the parts do not make that many numbers."""
    p = {name: tensor.float() for name, tensor in parts.items()}
    method = method_of(parts)
    if method == LORA:
        made = p["up"].flatten(1) @ p["down"].flatten(1)
    elif method == TUCKER:
        # down, core, up one after the other, as one convolution
        made = torch.einsum("om,mnkl,ni->oikl", p["up"].flatten(1), p["mid"], p["down"].flatten(1))
    elif method == HADAMARD:
        made = _product(p, "hada_t1", "hada_w1_a", "hada_w1_b") * _product(p, "hada_t2", "hada_w2_a", "hada_w2_b")
    elif method == KRONECKER:
        made = _kronecker(p)
    else:
        made = p["diff" if method == FULL else "w_norm"]
    return made.reshape(shape) if made.numel() == torch.Size(shape).numel() else _refuse(made, shape)


def _product(p: Parts, core: str, a: str, b: str) -> torch.Tensor:
    """A b, a [out, r], b [r, in k k]; with a core [r, r, k, k] the product of all three, a [r, out], b [r, in] (Tucker's decomposition)."""
    if core in p:
        return torch.einsum("ijkl,jr,ip->prkl", p[core], p[b], p[a])
    return p[a].flatten(1) @ p[b].flatten(1)


def _kronecker(p: Parts) -> torch.Tensor:
    """w1 [a, b] (x) w2 [c, d, ...]: [a c, b d, ...]."""
    w1 = p["lokr_w1"] if "lokr_w1" in p else p["lokr_w1_a"] @ p["lokr_w1_b"]
    w2 = p["lokr_w2"] if "lokr_w2" in p else _product(p, "lokr_t2", "lokr_w2_a", "lokr_w2_b")
    return torch.kron(w1.reshape(*w1.shape[:2], *[1] * (w2.dim() - 2)), w2.contiguous())


def _refuse(made: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    raise ValueError(f"makes {list(made.shape)}, and the base's weight is {list(shape)}")
