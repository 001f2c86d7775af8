from __future__ import annotations

import pytest
import torch

from fashion_ml.losses.noise import multires_noise, multires_sizes, offset_noise, perturbed


def test_offset_noise_moves_whole_channels():
    """noise 1, shift 2 in one channel, strength 0.1: 1.2 there and 1 elsewhere"""
    shift = torch.tensor([2.0, 0, 0, 0]).view(1, 4, 1, 1)
    result = offset_noise(torch.ones(1, 4, 3, 3), shift, 0.1)
    torch.testing.assert_close(result[0, :, 0, 0], torch.tensor([1.2, 1, 1, 1]))
    assert (result[0, 0] == result[0, 0, 0, 0]).all()


def test_sizes_fall_by_the_power_of_each_level_s_own_ratio_down_to_one():
    """64 x 48: 1 at level 0; 2.0 ** 1 -> 32 x 24; 3.0 ** 2 = 9 -> 7 x 5; 4.0 ** 3 = 64 -> 1 x 1, where it ends"""
    assert multires_sizes(64, 48, [3.5, 2.0, 3.0, 4.0, 2.0]) == [(64, 48), (32, 24), (7, 5), (1, 1)]


def test_the_sum_of_two_levels_by_hand():
    """level 0 adds itself, level 1 of one number v adds v * 0.5 everywhere; then the deviation is made 1, which a constant does not change"""
    noise = torch.tensor([[[1.0, -1.0], [2.0, 0.0]]])
    first, second = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]), torch.tensor([[[4.0]]])
    summed = torch.tensor([[[3.0, 2.0], [5.0, 2.0]]])
    result = multires_noise(noise, [first, second], 0.5)
    torch.testing.assert_close(result, summed / summed.std())
    assert result.std() == pytest.approx(1, abs=1e-6)


def test_the_pyramid_equals_one_written_after_the_article():
    """Whitaker 2023: bilinear upsampling of noise at each size, discounted by its level, divided by the deviation of all"""
    draw = torch.Generator().manual_seed(3)
    noise = torch.randn(4, 16, 12, generator=draw)
    sizes = multires_sizes(16, 12, [2.5, 2.1, 3.9])
    coarser = [torch.randn(4, *size, generator=draw) for size in sizes]
    up = torch.nn.Upsample(size=(16, 12), mode="bilinear")
    wanted = noise.double() + sum(up(one[None].double())[0] * 0.3**level for level, one in enumerate(coarser))
    torch.testing.assert_close(multires_noise(noise, coarser, 0.3).double(), wanted / wanted.std(), rtol=1e-5, atol=1e-5)


def test_noise_that_is_given_is_not_changed():
    noise = torch.randn(4, 8, 8)
    before = noise.clone()
    multires_noise(noise, [torch.randn(4, 8, 8)], 0.3)
    assert torch.equal(noise, before)


def test_perturbed_noise_is_the_noise_and_a_tenth_of_more():
    """1 + 0.1 * 3 = 1.3"""
    torch.testing.assert_close(
        perturbed(torch.ones(1, 4, 2, 2), torch.full((1, 4, 2, 2), 3.0), 0.1), torch.full((1, 4, 2, 2), 1.3)
    )
