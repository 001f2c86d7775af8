"""OFT as WebUIs read it: what a layer puts out is rotated, a block of channels at a time, W' = R W with R block-diagonal and orthogonal.

Qiu et al. 2023, arXiv:2306.07280. R = (I - Q)(I + Q)^-1 of a skew Q (Cayley) is peft's; peft's own layer rotates what goes in, which for 3 x 3
convolutions is no change of the weight, and which no WebUI reads.
"""

from __future__ import annotations

from typing import Any

import torch


def block_size(outputs: int, wanted: int) -> int:
    """Channels of a block: the most that divide the outputs, and are neither above `wanted` nor above their number, as LyCORIS has it."""
    return max(size for size in range(1, wanted + 1) if outputs % size == 0 and size * size <= outputs)


def add_rotations(model: torch.nn.Module, sizes: dict[str, int]) -> None:
    """Put a rotation, which turns nothing yet, behind each of the modules that are named with their blocks' size; only they train."""
    for name, size in sizes.items():
        parent, _, last = name.rpartition(".")
        module = model.get_submodule(name)
        setattr(model.get_submodule(parent), last, rotated(module, size).to(next(module.parameters()).device))
    model._hf_peft_config_loaded = True  # type: ignore[assignment]  # diffusers and transformers switch adapters only where it is set


def rotated(module: Any, wanted: int) -> torch.nn.Module:
    """A linear layer or convolution with a rotation behind it."""
    from peft.tuners.oft.layer import OFTRotationModule
    from peft.tuners.tuners_utils import BaseTunerLayer

    class Rotated(torch.nn.Module, BaseTunerLayer):  # type: ignore[misc]
        """Layer of peft's kind, so that it is switched off and on with the others."""

        adapter_layer_names = ("oft_R",)

        def __init__(self) -> None:
            super().__init__()
            self.base_layer = module
            self._disable_adapters, self._active_adapter = False, "default"
            self.merged_adapters: list[str] = []
            outputs = module.weight.shape[0]
            size = block_size(outputs, wanted)
            rotation = OFTRotationModule(outputs // size, size * (size - 1) // 2, size, outputs, use_cayley_neumann=False)
            torch.nn.init.zeros_(rotation.weight)
            self.oft_R = torch.nn.ModuleDict({"default": rotation})

        def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            """The base's output, its bias aside, rotated in float32."""
            y = self.base_layer(x, *args, **kwargs)
            if self.disable_adapters:
                return y
            with torch.autocast(y.device.type, enabled=False):
                channels = y.movedim(1, -1) if y.dim() == 4 else y
                flat = channels.reshape(-1, channels.shape[-1]).float()
                bias = 0 if self.base_layer.bias is None else self.base_layer.bias.float()
                turned = (self.oft_R["default"](flat - bias) + bias).view(channels.shape).to(y.dtype)
            return turned.movedim(-1, 1) if y.dim() == 4 else turned

    return Rotated()


def blocks_of(vector: torch.Tensor, size: int) -> torch.Tensor:
    """LyCORIS' oft_blocks [n, s, s] of peft's numbers [n, s (s - 1) / 2] above the diagonal; LyCORIS has Q of the other sign."""
    rows, columns = torch.triu_indices(size, size, 1)
    blocks = vector.new_zeros(len(vector), size, size)
    blocks[:, rows, columns] = -vector
    return blocks


def vector_of(blocks: torch.Tensor) -> torch.Tensor:
    """The way back, of blocks with any numbers below the diagonal: Q is blocks less their transpose."""
    rows, columns = torch.triu_indices(blocks.shape[-1], blocks.shape[-1], 1)
    skew = blocks - blocks.transpose(1, 2)
    return -skew[:, rows, columns]


def rotation_of(blocks: torch.Tensor) -> torch.Tensor:
    """R [n, s, s] of LyCORIS' oft_blocks: (I + Q)(I - Q)^-1 with Q = blocks less their transpose; y[m] = sum over n of R[n, m] x[n]."""
    skew = blocks - blocks.transpose(1, 2)
    one = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
    return torch.linalg.solve(one - skew, one + skew, left=False)
