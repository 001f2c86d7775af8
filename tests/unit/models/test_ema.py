"""Averages of weights, by hand."""

from __future__ import annotations

import torch

from fashion_ml.models.ema import AveragedTensors


def test_averages_follow_with_the_smaller_decay_at_first():
    """Steps 1 and 2 have d = 2/11 and 3/12; from 0: 11 -> 9, then 3/12 * 9 + 9/12 * 5 = 6; a decay of 0.1 is below both: 0.1 and 0.9"""
    weight = torch.nn.Parameter(torch.zeros(1))
    slow, quick = AveragedTensors([weight], 0.99), AveragedTensors([weight], 0.1)
    for step, value in ((1, 11.0), (2, 5.0)):
        weight.data.fill_(value)
        slow.update(step)
        quick.update(step)
    torch.testing.assert_close(slow.tensors[0], torch.tensor([6.0]))
    torch.testing.assert_close(quick.tensors[0], torch.tensor([0.1 * 9.9 + 0.9 * 5]))


def test_weights_are_the_averages_inside_and_themselves_afterwards():
    weight = torch.nn.Parameter(torch.randn(3, 4))
    average = AveragedTensors([weight], 0.9)
    before = weight.detach().clone()
    average.tensors[0].fill_(2.0)
    with average.in_place():
        assert (weight == 2).all()
    assert torch.equal(weight, before)
