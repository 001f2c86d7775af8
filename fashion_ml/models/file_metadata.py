"""What the metadata of a LoRA file say of its base and of its sizes, in the words of kohya's trainer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import torch

from fashion_ml.models.families.known import family_of
from fashion_ml.models.lora_delta import alpha_in, rank_of
from fashion_ml.models.lora_file import parts_by_module

_CONVOLUTION = re.compile(r"_conv[12]?$|_in_layers_2$|_out_layers_3$|_0_op$")
"""A 3 x 3 one of a residual block, or of down- and upsampling, by kohya's name."""


def base_metadata(pipeline: Any) -> dict[str, Any]:
    """Family and prediction of a base."""
    return family_of(pipeline).metadata(pipeline.scheduler.config.prediction_type)


def size_metadata(tensors: Mapping[str, torch.Tensor], args: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Rank and alpha of a file in kohya's names, those of its 3 x 3 convolutions in ss_network_args beside `args`; `Dynamic` where modules
    differ, as kohya's own tools say it. Nothing is said of methods without a rank."""
    sizes: dict[bool, set[tuple[int, float]]] = {False: set(), True: set()}
    for module, parts in parts_by_module(tensors).items():
        rank = rank_of(parts)
        if rank:
            sizes[_CONVOLUTION.search(module) is not None].add((rank, alpha_in(parts.get("alpha"), rank)))
    told: dict[str, str] = {}
    if any(sizes.values()):
        told = dict(zip(("ss_network_dim", "ss_network_alpha"), _one_of(sizes[False] or sizes[True]), strict=True))
    of_convolutions = dict(zip(("conv_dim", "conv_alpha"), _one_of(sizes[True]), strict=True)) if sizes[True] else {}
    kept = {name: value for name, value in (args or {}).items() if name not in ("conv_dim", "conv_alpha")}
    return told | ({"ss_network_args": json.dumps(kept | of_convolutions)} if kept or of_convolutions else {})


def _one_of(sizes: set[tuple[int, float]]) -> tuple[str, str]:
    ranks, alphas = {rank for rank, _ in sizes}, {alpha for _, alpha in sizes}
    return (str(ranks.pop()) if len(ranks) == 1 else "Dynamic", str(alphas.pop()) if len(alphas) == 1 else "Dynamic")
