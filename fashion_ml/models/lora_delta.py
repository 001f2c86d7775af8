"""What a module of a LoRA file adds to the weight of its base, by the method that made it.

LoRA: s B A (Hu et al. 2021, arXiv:2106.09685). LoCon with a core ("lora_mid"), LoHa and LoKr: Yeh et al. 2023, arXiv:2309.14859, sections
3.2 to 3.4; LoHa is FedPara's Hadamard product (Hyeon-Woo et al. 2021, arXiv:2108.06098), LoKr a Kronecker product. s is alpha / rank. OFT
(arXiv:2306.07280) and (IA)^3 (arXiv:2205.05638) as LyCORIS has them: (R - I) W with blocks of R on the outputs, and w * W of outputs or inputs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fashion_ml.models.output_rotation import rotation_of
from fashion_ml.runtime.language import tr

LORA, TUCKER, HADAMARD, KRONECKER, FULL, NORM, ROTATION, SCALING = (
    "LoRA",
    "LoCon with lora_mid",
    "LoHa",
    "LoKr",
    "full difference",
    "norm difference",
    "OFT",
    "(IA)^3",
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
    if names == {"oft_blocks"} and parts["oft_blocks"].dim() == 3:
        return ROTATION
    if names == {"weight", "on_input"}:
        return SCALING
    if names and names <= {"diff", "diff_b"}:
        return FULL
    return NORM if names and names <= {"w_norm", "b_norm"} else None


def rank_of(parts: Parts) -> int | None:
    """The rank that alpha is divided by; None where nothing has one: a full difference, or LoKr of two whole factors."""
    for name in ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
        if name in parts:
            return int(parts[name].shape[0])
    return None


def alpha_in(alpha: torch.Tensor | None, rank: int) -> float:
    """What a module's update is scaled by, over its rank: the file's alpha, and the rank itself where the file has none or 0.

    So kohya's trainer and LyCORIS read it (sd-scripts' `LoRAModule`, LyCORIS' `LoConModule`). A1111, Forge, ComfyUI and diffusers take 0 as 0.
    """
    return float(alpha.item() if alpha is not None else 0.0) or float(rank)


def delta(parts: Parts, shape: tuple[int, ...], weight: torch.Tensor | None = None) -> torch.Tensor:
    """What is added to a weight [out, in, ...] of `shape` at scale 1, float32. OFT and (IA)^3 need the weight. ValueError when the parts do
    not make that many numbers."""
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
    elif method in (ROTATION, SCALING):
        if weight is None:
            raise ValueError(tr("{method} is of a base's weight, which is not given", method=method))
        made = _turned(p, weight.float()) if method == ROTATION else _scaled(p, weight.float())
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


def _turned(p: Parts, weight: torch.Tensor) -> torch.Tensor:
    """(R - I) W. With an alpha above 0 the norm of Q is held to alpha * out."""
    blocks = p["oft_blocks"]
    skew = blocks - blocks.transpose(1, 2)
    if blocks.shape[0] * blocks.shape[1] != weight.shape[0]:
        raise ValueError(
            tr(
                "turns {shape} outputs, and the base's weight is {shape_2}",
                shape=blocks.shape[0] * blocks.shape[1],
                shape_2=list(weight.shape),
            )
        )
    if weight.device.type != "meta" and "alpha" in p and p["alpha"].item() > 0:
        most, norm = p["alpha"].item() * weight.shape[0], skew.norm()
        blocks = torch.triu(skew, 1) * (most / (norm + 1e-8)).clamp(max=1.0)
    rows = weight.view(blocks.shape[0], blocks.shape[1], -1)
    return torch.einsum("knm,kni->kmi", rotation_of(blocks.to(weight.device)), rows).reshape(weight.shape) - weight


def _scaled(p: Parts, weight: torch.Tensor) -> torch.Tensor:
    """W * W along the inputs, or the outputs."""
    factor, on_input = p["weight"].flatten(), bool(p["on_input"].item())
    side = 1 if on_input else 0
    if factor.numel() != weight.shape[side]:
        raise ValueError(
            tr(
                "scales {numel} {part}, and the base's weight is {shape}",
                numel=factor.numel(),
                part=tr("inputs") if on_input else tr("outputs"),
                shape=list(weight.shape),
            )
        )
    return weight * factor.to(weight.device).view(*[1] * side, -1, *[1] * (weight.dim() - side - 1))


def _refuse(made: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    raise ValueError(tr("makes {shape}, and the base's weight is {shape_2}", shape=list(made.shape), shape_2=list(shape)))
