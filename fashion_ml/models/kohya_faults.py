"""What is wrong with a LoRA's file: half modules, ranks that differ, other modules than train here, another form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.models.families.known import family_of_unet
from fashion_ml.models.lora_file import other_base, parts_by_module
from fashion_ml.models.lora_forms import recognise
from fashion_ml.models.lora_keys import setting_of
from fashion_ml.runtime.language import tr


def check_whole(tensors: Mapping[str, torch.Tensor], what: str) -> None:
    """InputError, beginning with `what`, where a tensor has no numbers or whole ones, an alpha is not one number, or two factors of a module
    are of different ranks."""
    for name, tensor in tensors.items():
        alpha = name.endswith(".alpha")
        if tensor.numel() == 0 or (alpha and tensor.numel() > 1):
            raise InputError(
                tr(
                    "{what} has {name} of shape {shape}, which no LoRA has: it is damaged; give a whole file",
                    what=what,
                    name=name,
                    shape=list(tensor.shape),
                )
            )
        if not (alpha or tensor.is_floating_point()):
            raise InputError(
                tr(
                    "{what} has {name} in {removeprefix}, quantised; give a file in fp16 or float32",
                    what=what,
                    name=name,
                    removeprefix=str(tensor.dtype).removeprefix("torch."),
                )
            )
    for module, parts in parts_by_module(tensors).items():
        for first, second, core in _FACTORS:
            if {first, second} <= parts.keys() and core not in parts and not _one_rank(parts[first], parts[second]):
                raise InputError(
                    tr(
                        "{what} has {first} of shape {shape} and {second} of {shape_2} in {module}, which are of different "
                        "ranks: it is damaged; give a whole file",
                        what=what,
                        first=first,
                        shape=list(parts[first].shape),
                        second=second,
                        shape_2=list(parts[second].shape),
                        module=module,
                    )
                )


def check_family(what: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], unet: Any) -> None:
    """InputError, beginning with `what`, where a LoRA was trained on another kind of base than this UNet's."""
    family = family_of_unet(unet)
    foreign = other_base(tensors, metadata, unet.config.cross_attention_dim, family.short)
    if foreign:
        raise InputError(
            tr(
                "{what} is a LoRA of {foreign}, and this base is {short}; use a LoRA that was trained on this base, or give "
                "model.base (--base) that of the LoRA",
                what=what,
                foreign=foreign,
                short=family.short,
            )
        )


_FACTORS = (
    ("up", "down", "mid"),
    ("hada_w1_a", "hada_w1_b", "hada_t1"),
    ("hada_w2_a", "hada_w2_b", "hada_t2"),
    ("lokr_w1_a", "lokr_w1_b", ""),
    ("lokr_w2_a", "lokr_w2_b", "lokr_t2"),
)
"""Factors [out, r, …] and [r, in, …] that are multiplied where there is no core."""


def _one_rank(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.dim() > 1 and second.dim() > 1 and first.flatten(1).shape[1] == second.shape[0]


def check_targets(name: str, in_file: set[str], ours: set[str]) -> None:
    """InputError where a file has other modules than train here, with the setting that changes it."""
    for others, state in ((in_file - ours, "true"), (ours - in_file, "false")):
        for key in sorted(others):
            switch = setting_of(key)
            why = tr("which nothing here trains on this base") if state == "true" else tr("which trains here")
            fix = (
                tr("{key}; set {switch} to {state}", key=key, switch=switch, state=state)
                if switch
                else tr("{key}, {why}; fashion-ml inspect says what the file is", key=key, why=why)
            )
            raise InputError(
                tr("{name} holds {fix}", name=name, fix=fix)
                if state == "true"
                else tr("{name} lacks {fix}", name=name, fix=fix)
            )


def other_form(name: str, shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> str:
    """What a file without kohya's lora_down is, and what to do with it."""
    form = recognise(shapes, metadata)
    if form is None:
        return tr("{name} is no LoRA in kohya's layout; give one written by this trainer or by kohya's", name=name)
    return tr(
        "{name} is {title}, not LoRA in kohya's names; what can be done: {use}", name=name, title=form.title, use=form.use
    )
