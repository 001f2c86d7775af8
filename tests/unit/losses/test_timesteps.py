from __future__ import annotations

import math

import pytest
import torch
from diffusers.training_utils import compute_density_for_timestep_sampling
from scipy import stats

from fashion_ml.losses.timesteps import logit_normal, mode_heavy, timesteps_at, weight_curve


def test_logit_normal_by_hand():
    """sigmoid(0) = 0.5; sigmoid(1 + 2 * -1) = 1 / (1 + e) = 0.26894"""
    torch.testing.assert_close(logit_normal(torch.tensor([0.0]), 0, 1), torch.tensor([0.5]))
    torch.testing.assert_close(logit_normal(torch.tensor([-1.0]), 1, 2), torch.tensor([1 / (1 + math.e)]))


def test_mode_by_hand():
    """u 0: 1; u 1: 0; u 0.5 with scale 1: 0.5 - (0.5 - 1 + 0.5) = 0.5; scale 0 is 1 - u"""
    torch.testing.assert_close(mode_heavy(torch.tensor([0.0, 1.0, 0.5]), 1.0), torch.tensor([1.0, 0.0, 0.5]), atol=1e-6, rtol=0)
    torch.testing.assert_close(mode_heavy(torch.tensor([0.2, 0.9]), 0.0), torch.tensor([0.8, 0.1]))


@pytest.mark.parametrize(
    ("scheme", "options"),
    [("logit_normal", {"logit_mean": 0.4, "logit_std": 0.7}), ("mode", {"mode_scale": 1.29}), ("mode", {"mode_scale": -0.8})],
)
def test_the_distributions_equal_those_of_diffusers(scheme: str, options: dict[str, float]):
    torch.manual_seed(0)
    theirs = compute_density_for_timestep_sampling(scheme, 20_000, **options).numpy()
    draw = torch.Generator().manual_seed(1)
    if scheme == "mode":
        ours = mode_heavy(torch.rand(20_000, generator=draw), options["mode_scale"])
    else:
        ours = logit_normal(torch.randn(20_000, generator=draw), options["logit_mean"], options["logit_std"])
    assert stats.ks_2samp(theirs, ours.numpy()).pvalue > 0.01
    assert stats.ks_2samp(theirs, ours.numpy() ** 1.1).pvalue < 1e-4


def test_shares_become_timesteps_within_their_range():
    """of 100 to 200: 0 is 100, 0.5 is 150, 0.999 is 199, and 1 is still 199"""
    assert timesteps_at(torch.tensor([0.0, 0.5, 0.999, 1.0]), 100, 200).tolist() == [100, 150, 199, 199]


def test_a_curve_is_straight_between_its_points_and_level_outside():
    """points (2, 1) and (4, 3): 1 1 1 2 3 3"""
    torch.testing.assert_close(weight_curve(((2, 1.0), (4, 3.0)), 6), torch.tensor([1.0, 1, 1, 2, 3, 3]))
