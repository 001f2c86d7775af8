"""LoHa, LoKr, OFT and (IA)^3 beside the plain LoRA: peft's layers, and what of them a file in LyCORIS' layout holds.

LoHa and LoKr: Yeh et al. 2023, arXiv:2309.14859. OFT: Qiu et al. 2023, arXiv:2306.07280. (IA)^3: Liu et al. 2022, arXiv:2205.05638.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.models.lora_delta import HADAMARD, KRONECKER, LORA, ROTATION, SCALING, alpha_in
from fashion_ml.models.lora_sizes import Target
from fashion_ml.models.output_rotation import add_rotations, blocks_of, vector_of
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.models.lora import LoraSpec

METHODS = {"lora": LORA, "loha": HADAMARD, "lokr": KRONECKER, "oft": ROTATION, "ia3": SCALING}
"""What `network.algo` is called in messages."""
_HADA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_LOKR = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")

LAYERS = ("lora_A", "hada_w1_a", "lokr_w1", "lokr_w1_a", "oft_R", "ia3_l")
"""What peft's layers of each kind keep of an adapter; one of them is enough to know a layer by."""


def add_variant(model: Any, spec: LoraSpec, targets: Sequence[Target]) -> None:
    """Put the layers of `spec.algo`, which change nothing yet, on the modules of a model."""
    if spec.algo == "oft":
        add_rotations(model, {one.name: one.rank for one in targets})
        return
    model.add_adapter(_config(model, spec, targets))
    for layer in model.modules():
        if isinstance(getattr(layer, "module_dropout", None), dict):
            layer.module_dropout[
                "default"
            ] = -1.0  # peft draws a number at each pass and leaves the layer out where it is no more than this


def _config(model: Any, spec: LoraSpec, targets: Sequence[Target]) -> Any:
    from peft import IA3Config, LoHaConfig, LoKrConfig

    names = [one.name for one in targets]
    if spec.algo == "ia3":  # on what goes in where there is a bias, which peft's scale would reach and a file of weights cannot
        inputs = [name for name in names if model.get_submodule(name).bias is not None]
        return IA3Config(target_modules=names, feedforward_modules=inputs)
    sizes: dict[str, Any] = {
        "r": spec.rank,
        "alpha": spec.alpha,
        "target_modules": names,
        "rank_pattern": {exactly(one.name): one.rank for one in targets if one.rank != spec.rank},
        "alpha_pattern": {exactly(one.name): one.alpha for one in targets if one.alpha != spec.alpha},
    }
    if spec.algo == "loha":
        return LoHaConfig(**sizes)
    return LoKrConfig(**sizes, decompose_factor=spec.lokr_factor, init_weights="lycoris")


def exactly(name: str) -> str:
    """A pattern of peft that means one module."""
    return f"^{re.escape(name)}$"


def parts_of(layer: Any) -> dict[str, torch.Tensor]:
    """What a file holds of a layer that is no plain LoRA.

    Scales of LoHa and LoKr are in the first factor and alpha is the rank: LyCORIS multiplies by alpha / rank twice where it merges.
    """
    found: dict[str, torch.Tensor] = {}
    if hasattr(layer, "oft_R"):
        rotation = layer.oft_R["default"]
        return {"oft_blocks": blocks_of(rotation.weight.detach(), rotation.block_size), "alpha": torch.tensor(0.0)}
    if hasattr(layer, "ia3_l"):
        factor = layer.ia3_l["default"].detach()
        flat = factor.reshape(1, -1, 1, 1) if factor.dim() == 4 else factor.reshape(-1)
        return {"weight": flat - 1, "on_input": torch.tensor(float(layer.is_feedforward))}
    for part in (*_HADA, *_LOKR):
        if "default" in getattr(layer, part, {}):
            found[part] = getattr(layer, part)["default"].detach()
    scale = layer.scaling["default"]
    first = next(iter(found))
    if scale != 1:
        found[first] = found[first] * scale
    return {**found, "alpha": torch.tensor(float(layer.r["default"]))}


@torch.no_grad()
def put_parts(layer: Any, parts: Mapping[str, torch.Tensor], what: str) -> None:
    """Let a layer compute what a file says of it. InputError, beginning with `what`, where a rotation is held to a norm, as it is not here."""
    if hasattr(layer, "oft_R"):
        if float(parts.get("alpha", torch.zeros(()))) > 0:
            raise InputError(
                tr("{what} holds OFT with a constraint (alpha), which is not trained here; give a file of alpha 0", what=what)
            )
        layer.oft_R["default"].weight.copy_(vector_of(parts["oft_blocks"].float()))
        return
    if hasattr(layer, "ia3_l"):
        layer.ia3_l["default"].copy_(parts["weight"].float().view_as(layer.ia3_l["default"]) + 1)
        return
    rank, first = layer.r["default"], True
    whole = {"lokr_w1", "lokr_w2"} <= parts.keys()
    scale = 1.0 if whole else alpha_in(parts.get("alpha"), rank) / rank
    for part in (*_HADA, *_LOKR):
        if part in parts:
            kept = getattr(layer, part)["default"]
            kept.copy_(parts[part].float().view_as(kept) * (scale / layer.scaling["default"] if first else 1.0))
            first = False


def check_variant(spec: LoraSpec, models: Sequence[tuple[Any, Sequence[Target]]]) -> None:
    """InputError where a setting does not fit the base's modules."""
    if spec.algo != "lokr" or spec.lokr_factor < 1:
        return
    from peft.tuners.lokr.layer import factorization

    for model, targets in models:
        for one in targets:
            outputs, inputs = model.get_submodule(one.name).weight.shape[:2]
            if any(first > second for first, second in (factorization(side, spec.lokr_factor) for side in (outputs, inputs))):
                raise InputError(
                    tr(
                        "network.lokr_factor: {lokr_factor} is above the square root of a side of {key} ({outputs} x "
                        "{inputs}), where LyCORIS reads the factors the other way round; use a smaller one",
                        lokr_factor=spec.lokr_factor,
                        key=one.key,
                        outputs=outputs,
                        inputs=inputs,
                    )
                )
