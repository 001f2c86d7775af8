"""How kohya numbers the blocks of a UNet, by which ranks, alphas and learning rates can be given."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from fashion_ml.models.original_names import OriginalNames
from fashion_ml.runtime.language import tr

_BLOCK = re.compile(r"^(up|down)_blocks_(\d+)_(resnets|upsamplers|downsamplers|attentions)_(\d+)_")
_ORIGINAL = re.compile(r"^(input_blocks|middle_block|output_blocks)_(\d+)(?:_|$)")


@dataclass(frozen=True)
class UnetBlocks:
    """Of a UNet whose modules kohya calls as diffusers does: 0 its input, then down, the middle, up; 25 of Stable Diffusion 1.x and 2.x."""

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

    @property
    def told(self) -> str:
        """What they are, in a few words."""
        return tr("its input, {side} down, 1 in the middle, {side_2} up", side=self.side - 1, side_2=self.side)

    def number(self, key: str) -> int | None:
        """The block of a module by kohya's name without its prefix; None where it is in none."""
        found = _BLOCK.match(key)
        if not found:
            return self.side if key.startswith("mid_block_") else None
        way, level, kind, index = found[1], int(found[2]), found[3], int(found[4])
        place = (self.layers + 1) * level + (self.layers if kind.endswith("samplers") else index)
        return place + (1 if way == "down" else self.side + 1)


@dataclass(frozen=True)
class OriginalBlocks:
    """Of a UNet whose modules kohya calls as the original layout does: 0 what the time and the sizes pass through, then each input block, the
    three parts of the middle, each output block, and the last layers; 23 of SDXL."""

    inputs: int
    outputs: int

    @classmethod
    def of(cls, unet: Any) -> OriginalBlocks:
        """Of a UNet by its configuration."""
        names = OriginalNames(unet.config)
        return cls(names.inputs, names.outputs)

    @property
    def count(self) -> int:
        """All of them; the first two and the last have no module."""
        return self.inputs + self.outputs + 5

    @property
    def told(self) -> str:
        """What they are, in a few words."""
        return tr(
            "1 for time and sizes, {inputs} down, 3 in the middle, {outputs} up, 1 for its last layers",
            inputs=self.inputs,
            outputs=self.outputs,
        )

    def number(self, key: str) -> int | None:
        """The block of a module by kohya's name without its prefix; None where it is in none."""
        found = _ORIGINAL.match(key)
        if found:
            first = {"input_blocks": 1, "middle_block": 1 + self.inputs, "output_blocks": 4 + self.inputs}[found[1]]
            return first + int(found[2])
        if key.startswith(("time_embed_", "label_emb_")):
            return 0
        return self.count - 1 if key.startswith("out_") else None
