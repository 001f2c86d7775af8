"""FID: distance of two sets of pictures by Inception's features, from weights that are on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate, max_pool2d

from fashion_ml.errors import InputError
from fashion_ml.metrics.pair_kid import REALS
from fashion_ml.runtime.float32 import exact_float32
from fashion_ml.runtime.gpu_memory import leave, visiting
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.loaded_weights import check_finite
from fashion_ml.runtime.redact import first_line
from fashion_ml.runtime.weight_files import read_tensors
from fashion_ml.runtime.weights_hash import weights_sha256

_FIELD = "evaluation.inception"
_SIDE, _CLASSES = 299, 1008
PARAMETERS = {
    "features": "pool 3, 2048",
    "resized": f"bilinear to {_SIDE}",
    "covariance": "unbiased",
    "training_images": REALS,
}
"""What decides its numbers, beside the weights."""


def frechet_distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """Of features (N, D) and (M, D), N and M at least 2: |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), 0 for equal sets.

    Heusel et al. 2017, arXiv:1706.08500, equation 6. Biased upwards for few pictures, so sets of one size compare.
    """
    a, b = (one.double().numpy() for one in (first, second))
    cov_a, cov_b = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    # the trace of the root of C C' is that of the singular values of C^(1/2) C'^(1/2)
    root = np.linalg.svd(_root(cov_a) @ _root(cov_b), compute_uv=False).sum()
    return max(float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * root), 0.0)


def _root(covariance: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


@dataclass(frozen=True)
class Inception:
    """A loaded Inception v3 with the weights of FID. Szegedy et al. 2016, arXiv:1512.00567."""

    model: Any
    weights_sha256: str
    gpu: str = ""
    """Where it goes for computing, as a DINOv2."""

    def leave_gpu(self) -> None:
        """Make room for what else needs the GPU's memory, until it computes again."""
        if self.gpu:
            leave(self.model)

    @torch.no_grad()
    @exact_float32()
    def features(self, pictures: Sequence[Image.Image], batch_size: int = 32) -> torch.Tensor:
        """Features (N, 2048), float32, on the CPU."""
        found = []
        for first in range(0, len(pictures), batch_size):
            pixels = [np.asarray(one.convert("RGB")).copy() for one in pictures[first : first + batch_size]]
            x = torch.stack([torch.from_numpy(one).permute(2, 0, 1).float() / 255 for one in pixels])
            x = 2 * interpolate(x, (_SIDE, _SIDE), mode="bilinear", align_corners=False) - 1
            with visiting(self.model, self.gpu):
                found.append(_pool_3(self.model, x.to(self.gpu or "cpu")).float().cpu())
        return torch.cat(found)


def load_inception(path: Path, device: str = "cpu") -> Inception:
    """FID's Inception v3 from a file of its weights in torchvision's names (`pt_inception-2015-12-05-6726825d.pth`, or as .safetensors).

    InputError when the file is not there or holds other weights.
    """
    from torchvision.models import inception_v3

    if not path.is_file():
        raise InputError(
            tr(
                "{field}: {path!r} does not exist; give the file of FID's Inception v3, or leave it out",
                field=_FIELD,
                path=str(path),
            )
        )
    model = inception_v3(weights=None, aux_logits=False, num_classes=_CLASSES, init_weights=False)
    try:
        model.load_state_dict(read_tensors(path, _FIELD))
    except RuntimeError as error:
        what = tr("does not hold FID's Inception v3")
        raise InputError(
            tr(
                "{field}: {path!r} {what} ({first_line}); give pt_inception-2015-12-05-6726825d.pth",
                field=_FIELD,
                path=str(path),
                what=what,
                first_line=first_line(error),
            )
        ) from None
    check_finite(model.state_dict(), f"{_FIELD}: {str(path)!r}")
    model.eval().requires_grad_(False)
    return Inception(model, weights_sha256(model), "" if device == "cpu" else device)


def _pool_3(model: Any, x: torch.Tensor) -> torch.Tensor:
    """The features before the last layer, with the pools that FID's network has in place of torchvision's: averages leave the padding out, and
    the last block takes the maximum."""
    for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2"):
        x = getattr(model, name)(x)
    for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = _block_a(getattr(model, name), x)
    x = model.Mixed_6a(x)
    for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        x = _block_c(getattr(model, name), x)
    x = model.Mixed_7a(x)
    x = _block_e(model.Mixed_7b, x, _average(x))
    x = _block_e(model.Mixed_7c, x, max_pool2d(x, 3, 1, 1))
    return adaptive_avg_pool2d(x, 1).flatten(1)


def _average(x: torch.Tensor) -> torch.Tensor:
    return avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _block_a(block: Any, x: torch.Tensor) -> torch.Tensor:
    five = block.branch5x5_2(block.branch5x5_1(x))
    three = block.branch3x3dbl_3(block.branch3x3dbl_2(block.branch3x3dbl_1(x)))
    return torch.cat([block.branch1x1(x), five, three, block.branch_pool(_average(x))], 1)


def _block_c(block: Any, x: torch.Tensor) -> torch.Tensor:
    seven, double = x, x
    for number in (1, 2, 3):
        seven = getattr(block, f"branch7x7_{number}")(seven)
    for number in (1, 2, 3, 4, 5):
        double = getattr(block, f"branch7x7dbl_{number}")(double)
    return torch.cat([block.branch1x1(x), seven, double, block.branch_pool(_average(x))], 1)


def _block_e(block: Any, x: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
    three, double = block.branch3x3_1(x), block.branch3x3dbl_2(block.branch3x3dbl_1(x))
    wide = [block.branch3x3_2a(three), block.branch3x3_2b(three), block.branch3x3dbl_3a(double), block.branch3x3dbl_3b(double)]
    return torch.cat([block.branch1x1(x), *wide, block.branch_pool(pooled)], 1)
