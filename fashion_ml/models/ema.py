"""Exponential moving averages of weights: smoother networks to evaluate with."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

EMA = "-ema"
"""Between the name of a training's last file and its ending: the file of its weights' averages."""


class Averaged:
    """A copy of a network whose weights follow it: average = decay * average + (1 - decay) * weights after every step."""

    def __init__(self, network: torch.nn.Module, decay: float):
        self.network: Any = copy.deepcopy(network).requires_grad_(False).eval()
        self._decay = decay

    @torch.no_grad()
    def update(self, network: torch.nn.Module) -> None:
        """Take in the weights of a step."""
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - self._decay)


class AveragedTensors:
    """Averages of weights that follow them from step to step: average = d * average + (1 - d) * weights, d = min(decay, (1 + n) / (10 + n)).

    The smaller d of the first steps n lets the averages forget the beginning, as in TensorFlow's `ExponentialMovingAverage`.
    """

    def __init__(self, weights: Sequence[torch.Tensor], decay: float):
        self._weights, self._decay = weights, decay
        self.tensors = [one.detach().clone() for one in weights]
        """The averages, in the order of the weights."""

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.tensors, [one.detach() for one in self._weights], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block the weights are the averages; afterwards they are themselves again, bit for bit."""
        with put_back(self._weights):
            _copy(self._weights, self.tensors)
            yield


@contextmanager
def put_back(weights: Sequence[torch.Tensor]) -> Iterator[None]:
    """Inside the block the weights may be changed in place; afterwards they are what they were, bit for bit."""
    before = [one.detach().clone() for one in weights]
    try:
        yield
    finally:
        _copy(weights, before)


@torch.no_grad()
def _copy(to: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    for tensor, value in zip(to, values, strict=True):
        tensor.copy_(value)
