"""Which modules a LoRA is on, by kohya's names, and each one's rank and alpha: of its kind, of its block of the UNet, or a file's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fashion_ml.errors import InputError
from fashion_ml.models.families.family import UNET
from fashion_ml.models.families.known import family_of_unet
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.models.lora import LoraSpec


@dataclass(frozen=True)
class Target:
    """A module that trains."""

    name: str
    """As `named_modules` gives it."""
    key: str
    """kohya's name."""
    convolution: bool
    """3 x 3."""
    rank: int
    alpha: float
    block: int | None
    """Of the UNet, by kohya's numbers; None of the text encoder."""


def unet_sizes(unet: Any, names: Sequence[str], spec: LoraSpec) -> list[Target]:
    """The UNet's modules with their ranks and alphas; those of rank 0 are left out. InputError where blocks are given of another UNet."""
    family = family_of_unet(unet)
    blocks, key_of = family.blocks(unet), family.unet_key(unet)
    for setting in ("block_ranks", "block_alphas", "conv_block_ranks", "conv_block_alphas", "block_lr"):
        given = getattr(spec, setting)
        if given is not None and len(given) != blocks.count:
            section = "optimizer" if setting == "block_lr" else "network"
            raise InputError(
                tr(
                    "{section}.{setting}: {count} numbers, but the UNet of this base has {count_2} blocks ({told}); give one "
                    "for each, 0 where none trains",
                    section=section,
                    setting=setting,
                    count=len(given),
                    count_2=blocks.count,
                    told=blocks.told,
                )
            )
    keys = {name: key_of(name) for name in names}
    targets = [_target(unet, name, key, spec, blocks.number(key.removeprefix(UNET))) for name, key in keys.items()]
    found = [one for one in targets if one.rank > 0]
    if not found:
        setting, what = ("optimizer.block_lr", "factor") if spec.block_lr is not None else ("network.block_ranks", "rank")
        raise InputError(
            tr(
                "{setting}: no module is left to train; give a {what} above 0 to a block that has some",
                setting=setting,
                what=what,
            )
        )
    return found


def text_sizes(text_encoder: Any, names: Sequence[str], spec: LoraSpec, key: Callable[[str], str]) -> list[Target]:
    """A text encoder's modules, likewise; `key` makes kohya's names of theirs."""
    found = [_target(text_encoder, name, key(name), spec, None) for name in names]
    return [one for one in found if one.rank > 0]


def _target(model: Any, name: str, key: str, spec: LoraSpec, block: int | None) -> Target:
    convolution = is_convolution(model.get_submodule(name))
    if block is not None and spec.block_lr is not None and spec.block_lr[block] == 0:
        return Target(name, key, convolution, 0, 1.0, block)
    if spec.modules is not None:
        rank, alpha = spec.modules.get(key, (0, 1.0))
        return Target(name, key, convolution, rank, alpha, block)
    return Target(name, key, convolution, *spec.size_in_block(block, convolution), block)


def is_convolution(module: Any) -> bool:
    """Whether a module, with a LoRA or without, is a 3 x 3 convolution."""
    return getattr(getattr(module, "base_layer", module), "kernel_size", None) == (3, 3)
