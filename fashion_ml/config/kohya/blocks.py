"""Ranks, alphas and learning rates of the UNet's blocks among sd-scripts' network_args."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fashion_ml.config.kohya.values import is_nothing, number
from fashion_ml.runtime.language import tr

_LISTS = {
    "block_dims": "network.block_ranks",
    "block_alphas": "network.block_alphas",
    "conv_block_dims": "network.conv_block_ranks",
    "conv_block_alphas": "network.conv_block_alphas",
}
_WEIGHTS = ("down_lr_weight", "mid_lr_weight", "up_lr_weight")
NAMES = (*_LISTS, *_WEIGHTS, "block_lr_zero_threshold")
"""What is read here."""
_BLOCKS = {False: {"down": 12, "mid": 1, "up": 12}, True: {"down": 9, "mid": 3, "up": 9}}
"""Of Stable Diffusion 1.x and 2.x, and of SDXL, which has one more before them and behind them that no weight is given for."""
_ALL = {25: False, 23: True}
"""How many blocks one has whose ranks or alphas are given."""
_SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": lambda x: math.sin(math.pi * (1 - x) / 2),
    "sine": lambda x: math.sin(math.pi * x / 2),
    "linear": lambda x: x,
    "reverse_linear": lambda x: 1 - x,
    "zeros": lambda x: 0.0,
}
"""Of the place of a block, 0 to 1; `sine+0.25` adds 0.25."""


class Counted(NamedTuple):
    """Which kind of base an option has as many numbers for as that has blocks."""

    sdxl: bool
    option: str
    """In words."""
    exact: bool
    """Whether no other base takes so many: weights beyond the last block are cut."""


def sdxl_by_blocks(args: Mapping[str, str]) -> Counted | None:
    """Whether as many numbers are given as SDXL has blocks, or as the others have; None where they are of neither."""
    for name in (*_LISTS, *_WEIGHTS):
        count = len(args.get(name, "").split(","))
        part = name.partition("_")[0]
        of_part = {counts[part]: sdxl for sdxl, counts in _BLOCKS.items()} if name in _WEIGHTS else _ALL
        if count > 1 and count in of_part:
            return Counted(of_part[count], tr("network_args {name} of {count}", name=name, count=count), name in _LISTS)
    return None


def block_settings(args: Mapping[str, str], *, sdxl: bool = False) -> dict[str, Any]:
    """The equal settings of a base, which `sdxl` says is one of SDXL; alphas of blocks are network_alpha and conv_alpha where they are not
    given, as there. ValueError for no numbers."""
    found: dict[str, Any] = {}
    for name, place in _LISTS.items():
        if not is_nothing(args.get(name)):
            values = [number(tr("network_args {name}", name=name), part) for part in args[name].split(",")]
            found[place] = [int(value) for value in values] if name.endswith("dims") else values
    if "network.conv_block_ranks" in found and "network.conv_block_alphas" not in found:
        found["network.conv_block_alphas"] = [float(args.get("conv_alpha", 1))] * len(found["network.conv_block_ranks"])
    given = {name: args[name] for name in _WEIGHTS if not is_nothing(args.get(name))}
    if given:
        least = number("network_args block_lr_zero_threshold", args.get("block_lr_zero_threshold", "0"))
        counts = _BLOCKS[sdxl].values()
        down, middle, up = (_weights(name, given.get(name), count) for name, count in zip(_WEIGHTS, counts, strict=True))
        beside = [1.0] * sdxl
        found["optimizer.block_lr"] = [
            *beside,
            *(weight if weight > least else 0.0 for weight in (*down, *middle, *up)),
            *beside,
        ]
    return found


def _weights(name: str, text: str | None, count: int) -> list[float]:
    """Factors of one part of the UNet, of `count` blocks: numbers, filled up with 1 or cut, or the name of a shape."""
    if text is None:
        return [1.0] * count
    shape, _, more = text.partition("+")
    if shape in _SHAPES and not name.startswith("mid"):
        base = number(tr("network_args {name}", name=name), more) if more else 0.0
        return [_SHAPES[shape](place / (count - 1)) + base for place in range(count)]
    values = [number(tr("network_args {name}", name=name), part) for part in text.split(",")]
    return [*values, *[1.0] * count][:count]
