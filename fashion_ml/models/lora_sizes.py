"""Which modules a LoRA is on, by kohya's names, and each one's rank and alpha: of its kind, of its block of the UNet, or a file's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fashion_ml.errors import InputError
from fashion_ml.models.families.known import family_of_unet
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.models.lora import LoraSpec

_BLOCK = re.compile(r"^(up|down)_blocks_(\d+)_(resnets|upsamplers|downsamplers|attentions)_(\d+)_")


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


@dataclass(frozen=True)
class UnetBlocks:
    """How kohya numbers the blocks of a UNet: 0 its input, then down, the middle, up; 25 of Stable Diffusion 1.x and 2.x."""

    layers: int
    """Residual blocks of a level on the way down."""
    levels: int

    @classmethod
    def of(cls, unet: Any) -> UnetBlocks:
        """Of a UNet whose levels are all alike; of any other those of its first level are taken."""
        layers = unet.config.layers_per_block
        return cls(layers if isinstance(layers, int) else max(layers), len(unet.config.down_block_types))

    @property
    def side(self) -> int:
        """Blocks on the way down, the input too, and the number of the middle."""
        return (self.layers + 1) * self.levels

    @property
    def count(self) -> int:
        """All of them; some have no module."""
        return 2 * self.side + 1

    def number(self, key: str) -> int | None:
        """The block of a module by its name with `_` for each dot; None where it is in none."""
        found = _BLOCK.match(key)
        if not found:
            return self.side if key.startswith("mid_block_") else None
        way, level, kind, index = found[1], int(found[2]), found[3], int(found[4])
        place = (self.layers + 1) * level + (self.layers if kind.endswith("samplers") else index)
        return place + (1 if way == "down" else self.side + 1)


def unet_sizes(unet: Any, names: Sequence[str], spec: LoraSpec) -> list[Target]:
    """The UNet's modules with their ranks and alphas; those of rank 0 are left out. InputError where blocks are given of another UNet."""
    blocks, family = UnetBlocks.of(unet), family_of_unet(unet)
    for setting in ("block_ranks", "block_alphas", "conv_block_ranks", "conv_block_alphas", "block_lr"):
        given = getattr(spec, setting)
        if given is not None and len(given) != blocks.count:
            section = "optimizer" if setting == "block_lr" else "network"
            raise InputError(
                tr(
                    "{section}.{setting}: {count} numbers, but the UNet of this base has {count_2} blocks (its input, "
                    "{side} down, 1 in the middle, {side_2} up); give one for each, 0 where none trains",
                    section=section,
                    setting=setting,
                    count=len(given),
                    count_2=blocks.count,
                    side=blocks.side - 1,
                    side_2=blocks.side,
                )
            )
    targets = [_target(unet, name, family.unet_key(name), spec, blocks.number(name.replace(".", "_"))) for name in names]
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
