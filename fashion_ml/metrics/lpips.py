"""Perceptual distance, where the package lpips and the weights of its backbone are on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fashion_ml.errors import InputError
from fashion_ml.metrics.sizes import to_common_size
from fashion_ml.runtime.float32 import exact_float32
from fashion_ml.runtime.gpu_memory import leave, visiting
from fashion_ml.runtime.language import tr

BACKBONE = "alexnet-owt-7be5be79.pth"
"""torchvision's file name; looked for where torch keeps such files, and never fetched."""
_LEAST = 32
_ALMOST_ZERO = 1e-10
"""As in the package: added to a length before dividing by it."""
PARAMETERS = {"net": "alex, version 0.1", "backbone": BACKBONE, "least": _LEAST}
"""What decides its numbers."""


class Lpips:
    """LPIPS with AlexNet, version 0.1. Zhang et al. 2018, arXiv:1801.03924."""

    def __init__(self, device: str = "cpu"):
        """InputError, saying what is missing, when the package or the weights are not there."""
        path = weights_path()
        try:
            import lpips
        except ImportError:
            raise InputError(
                tr("evaluation.extra_metrics: lpips is not installed; pip install 'fashion-ml[lpips]', or leave lpips out")
            ) from None
        if not path.is_file():
            raise InputError(
                tr(
                    "evaluation.extra_metrics: lpips needs {path}, which is not there; put torchvision's file there, or "
                    "leave it out",
                    path=path,
                )
            )
        self.model: Any = lpips.LPIPS(net="alex", pretrained=True, pnet_rand=True, verbose=False)
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.model.net.load_state_dict(_slices(self.model.net, state))
        self.model.eval().requires_grad_(False)  # on the CPU, until it computes
        self._device = device

    def leave_gpu(self) -> None:
        """Make room for what else needs the GPU's memory, until it computes again."""
        leave(self.model)

    @torch.no_grad()
    @exact_float32()
    def between_all(self, pictures: Sequence[Image.Image]) -> float:
        """The mean distance of every two of some pictures of one size, at least two; each goes through the network once."""
        with visiting(self.model, self._device):
            stack = torch.cat([_tensor(picture) for picture in pictures]).to(self._device)
            first, second = torch.triu_indices(len(pictures), len(pictures), 1, device=stack.device)
            total = torch.zeros(len(first), device=stack.device)
            for part, weigh in zip(self.model.net(self.model.scaling_layer(stack)), self.model.lins, strict=True):
                unit = part / (part.square().sum(1, keepdim=True).sqrt() + _ALMOST_ZERO)
                total += weigh((unit[first] - unit[second]).square()).mean((1, 2, 3))
            return float(total.mean())

    @torch.no_grad()
    @exact_float32()
    def distances(self, pairs: Sequence[tuple[Image.Image, Image.Image]]) -> list[float]:
        """A distance for each pair, 0 for equal pictures, usually below 1; sides below 32 pixels are enlarged to that."""
        found = []
        for first, second in pairs:
            tensors = [_tensor(picture) for picture in to_common_size(first, second)]
            with visiting(self.model, self._device):
                found.append(float(self.model(*(one.to(self._device) for one in tensors)).item()))
        return found


def is_there() -> bool:
    """Whether the package and the backbone's weights are on this machine."""
    return find_spec("lpips") is not None and weights_path().is_file()


def weights_path() -> Path:
    """Where torch keeps the backbone's weights (TORCH_HOME, else ~/.cache/torch)."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints" / BACKBONE


def _slices(net: torch.nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The lpips package keeps AlexNet's `features.N` as `sliceK.N`."""
    by_place = {name.split(".", 1)[1]: name for name in net.state_dict()}
    return {by_place[key.removeprefix("features.")]: tensor for key, tensor in state.items() if key.startswith("features.")}


def _tensor(picture: Image.Image) -> torch.Tensor:
    if min(picture.size) < _LEAST:
        scale = _LEAST / min(picture.size)
        size = max(round(picture.width * scale), _LEAST), max(round(picture.height * scale), _LEAST)
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
