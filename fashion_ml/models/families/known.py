"""The families there are, and which one a base belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fashion_ml.models.families.family import Family
from fashion_ml.models.families.sd2 import StableDiffusion2
from fashion_ml.models.families.sdxl import StableDiffusionXL

FAMILIES: tuple[Family, ...] = (Family(), StableDiffusion2(), StableDiffusionXL())


def family_of(pipeline: Any) -> Family:
    """The family of a pipeline, or of anything that has a `unet`."""
    return family_of_unet(pipeline.unet)


def family_of_unet(unet: Any) -> Family:
    """The family of a UNet, by its configuration; the first where it is of none."""
    return by_config(unet.config)


def by_config(unet: Mapping[str, Any]) -> Family:
    """Likewise of the configuration itself."""
    return next((family for family in FAMILIES if family.has(unet)), FAMILIES[0])
