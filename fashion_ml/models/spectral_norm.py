"""Spectral normalisation: weights divided by their largest singular value, as power iteration estimates it."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import normalize
from torch.nn.utils.parametrize import register_parametrization

_AT_FIRST = 15
"""Iterations before the first step, from random vectors; then one at each forward pass."""
_LEAST = 1e-12


class SpectralNorm(nn.Module):
    """W -> W / sigma(W), of which W is a matrix with a row for each output. Miyato et al. 2018, arXiv:1802.05957, algorithm 1.

    In training every forward pass does one power iteration, without gradients; `u` and `v` are buffers, so that a resumed training has them.
    """

    u: torch.Tensor
    v: torch.Tensor

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        matrix = weight.detach().flatten(1)
        self.register_buffer("u", normalize(torch.randn(len(matrix)).to(matrix), dim=0, eps=_LEAST))
        self.register_buffer("v", normalize(matrix.T @ self.u, dim=0, eps=_LEAST))
        for _ in range(_AT_FIRST):
            self._iterate(matrix)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight over its largest singular value, in the weight's own precision also under autocast."""
        with torch.autocast(weight.device.type, enabled=False):
            matrix = weight.flatten(1)
            if self.training:
                self._iterate(matrix.detach())
            # copies: the next forward pass changes the vectors that this one's backward pass needs
            sigma = self.u.clone() @ matrix @ self.v.clone()
            return weight / sigma

    @torch.no_grad()
    def _iterate(self, matrix: torch.Tensor) -> None:
        self.u.copy_(normalize(matrix @ self.v, dim=0, eps=_LEAST))
        self.v.copy_(normalize(matrix.T @ self.u, dim=0, eps=_LEAST))


def with_spectral_norm(network: nn.Module) -> None:
    """Normalise the weights of every convolution and linear layer of a network, from here on; the vectors begin at random."""
    for module in [one for one in network.modules() if isinstance(one, nn.Conv2d | nn.Linear)]:
        register_parametrization(module, "weight", SpectralNorm(module.weight))
