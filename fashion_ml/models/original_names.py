"""What the original layout (CompVis, Stability's SGM) calls the modules of a UNet and of a VAE, from diffusers' names by the configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_ALONE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_DEEPEST = 5
"""Parts of the longest name of a block: down_blocks.0.downsamplers.0.conv."""


class OriginalNames:
    """The names of a UNet's modules and weights in the original layout.

    `config` is diffusers' configuration of a UNet2DConditionModel whose middle has one attention: any number of levels, of residual blocks in
    a level, and of levels with attention.
    """

    def __init__(self, config: Any) -> None:
        self._blocks = dict(_ALONE)
        self.inputs = 1
        """Input blocks, the first convolution among them."""
        for ours, theirs in self._down(config):
            self._blocks[ours] = theirs
        self.outputs = 0
        """Output blocks."""
        for ours, theirs in self._up(config):
            self._blocks[ours] = theirs

    def of(self, name: str) -> str | None:
        """The original name of a module or weight; None where the layout has none, as of a block that holds others."""
        parts = name.split(".")
        for count in range(1, min(len(parts), _DEEPEST) + 1):
            block = self._blocks.get(".".join(parts[:count]))
            if block is None:
                continue
            rest = parts[count:]
            if "resnets" in parts[:count]:
                if not rest or rest[0] not in _RESNET:
                    return None
                rest = [_RESNET[rest[0]], *rest[1:]]
            return ".".join([block, *rest])
        return None

    def _down(self, config: Any) -> Iterator[tuple[str, str]]:
        levels = len(config.down_block_types)
        for level in range(levels):
            for layer in range(_layers(config, level)):
                yield f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{self.inputs}.0"
                yield f"down_blocks.{level}.attentions.{layer}", f"input_blocks.{self.inputs}.1"
                self.inputs += 1
            if level < levels - 1:
                yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{self.inputs}.0.op"
                self.inputs += 1

    def _up(self, config: Any) -> Iterator[tuple[str, str]]:
        levels = len(config.up_block_types)
        for level, kind in enumerate(config.up_block_types):
            for layer in range(_layers(config, levels - 1 - level) + 1):
                yield f"up_blocks.{level}.resnets.{layer}", f"output_blocks.{self.outputs}.0"
                yield f"up_blocks.{level}.attentions.{layer}", f"output_blocks.{self.outputs}.1"
                self.outputs += 1
            if level < levels - 1:  # in the last block of its level, behind the attention if there is one
                place = 2 if "Attn" in kind else 1
                yield f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{self.outputs - 1}.{place}.conv"


def _layers(config: Any, level: int) -> int:
    layers = config.layers_per_block
    return int(layers if isinstance(layers, int) else layers[level])


def vae_name(name: str, last: int) -> str:
    """The original name of a VAE's weight; `last` is the number of its last level."""
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.(\d)", r"encoder.down.\1.block.\2", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"decoder.up.{last - int(m[1])}.block.{m[2]}", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)\.upsamplers\.0", lambda m: f"decoder.up.{last - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    for ours, theirs in _VAE_ATTENTION.items():
        name = name.replace(f"mid_block.attentions.0.{ours}.", f"mid.attn_1.{theirs}.")
    return name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
