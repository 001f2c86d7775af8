"""Exponential moving averages of weights: smoother networks to evaluate with."""

from __future__ import annotations

import copy
from typing import Any

import torch


class Averaged:
    """A copy of a network whose weights follow it: average = decay * average + (1 - decay) * weights after every step."""

    def __init__(self, network: torch.nn.Module, decay: float):
        self.network: Any = copy.deepcopy(network).requires_grad_(False).eval()
        self._decay = decay

    @torch.no_grad()
    def update(self, network: torch.nn.Module) -> None:
        """Take in the weights of a step."""
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - self._decay)
