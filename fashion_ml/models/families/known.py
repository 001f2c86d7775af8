"""The families there are, and which one a base belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fashion_ml.models.families.family import UNET, Family
from fashion_ml.models.families.sd2 import StableDiffusion2
from fashion_ml.models.families.sdxl import StableDiffusionXL
from fashion_ml.models.original_names import OriginalNames

FAMILIES: tuple[Family, ...] = (Family(), StableDiffusion2(), StableDiffusionXL())


def named(name: str) -> Family:
    """The family of this `name`."""
    return next(family for family in FAMILIES if family.name == name)


def called(short: str) -> Family | None:
    """The family that `lora_forms` call so; None of what is none here."""
    return next((family for family in FAMILIES if family.short == short), None)


def family_of(pipeline: Any) -> Family:
    """The family of a pipeline, or of anything that has a `unet`."""
    return family_of_unet(pipeline.unet)


def family_of_unet(unet: Any) -> Family:
    """The family of a UNet, by its configuration; the first where it is of none."""
    return by_config(unet.config)


def part_of(key: str) -> str:
    """The part of a pipeline that a module of kohya's name is in: unet, text_encoder or text_encoder_2."""
    parts = (part for family in FAMILIES for part in family.texts)
    return next((part.model for part in parts if key.startswith(part.prefix)), "unet")


def other_names(unet: Any) -> dict[str, str]:
    """Of each module of a UNet what it is called in the layout, diffusers' or the original, that kohya's files of its family do not have, with
    kohya's name."""
    names, key = OriginalNames(unet.config), family_of_unet(unet).unet_key(unet)
    found = {}
    for name, _ in unet.named_modules():
        for one in (name, names.of(name)):
            if one is not None:
                found[UNET + one.replace(".", "_")] = key(name)
    return found


def by_config(unet: Mapping[str, Any]) -> Family:
    """Likewise of the configuration itself. The first takes what no other one is, so it is asked last."""
    return next((family for family in (*FAMILIES[1:], FAMILIES[0]) if family.has(unet)), FAMILIES[0])
