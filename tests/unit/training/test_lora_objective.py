"""What a batch's error is and what its timesteps count for, as the settings say, against numbers by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fashion_ml.config import Loss
from fashion_ml.errors import InputError
from fashion_ml.losses.timesteps import weight_curve
from fashion_ml.training.lora_objective import check_objective, error_of, weighted_by_timestep

ABAR = torch.tensor([0.9, 0.5, 0.2])
"""snr 9, 1, 0.25."""


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, 9.0),
        ({"loss_type": "l1"}, 3.0),
        ({"loss_type": "huber", "huber_c": 1.0, "huber_schedule": "constant"}, 2 * (10**0.5 - 1)),
        ({"loss_type": "smooth_l1", "huber_c": 0.5, "huber_schedule": "constant"}, 2 * (9.25**0.5 - 0.5)),
        ({"loss_type": "log_cosh"}, 2.3093284),
    ],
)
def test_each_error_of_a_prediction_that_is_three_off(settings: dict[str, Any], wanted: float):
    prediction = torch.full((1, 4, 2, 2), 3.0)
    found = error_of(Loss(**settings), prediction, torch.zeros_like(prediction), ABAR, torch.tensor([1]), None)
    assert found.item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "kind", "wanted"),
    [
        ({}, "epsilon", [1, 1, 1]),
        ({"min_snr_gamma": 3}, "epsilon", [3 / 9, 1, 1]),
        ({"scale_v_pred_loss_like_noise_pred": True}, "v_prediction", [0.9, 0.5, 0.2]),
        ({"v_pred_like_loss": 0.5}, "epsilon", [1 + 0.5 / 0.9, 2, 1 + 0.5 / 0.2]),
        ({"debiased_estimation": True}, "epsilon", [1 / 3, 1, 2]),
        ({"timestep_weights": {0: 2, 2: 0}}, "epsilon", [2, 1, 0]),
        ({"timestep_weights": "1:4", "min_snr_gamma": 3}, "epsilon", [4 / 3, 4, 4]),
    ],
)
def test_each_weight_of_three_timesteps(settings: dict[str, Any], kind: str, wanted: list[float]):
    loss, timesteps = Loss(**settings), torch.tensor([0, 1, 2])
    curve = weight_curve(loss.timestep_weights, 3) if loss.timestep_weights else None
    torch.testing.assert_close(
        weighted_by_timestep(loss, torch.ones(3), ABAR, timesteps, kind, curve), torch.tensor(wanted, dtype=torch.float32)
    )


@pytest.mark.parametrize(
    ("settings", "kind", "told"),
    [
        ({"scale_v_pred_loss_like_noise_pred": True}, "epsilon", "scale_v_pred_loss_like_noise_pred: this base predicts noise"),
        ({"v_pred_like_loss": 0.1}, "v_prediction", "v_pred_like_loss: this base predicts v"),
    ],
)
def test_a_weighting_for_the_other_kind_of_base_is_refused(settings: dict[str, Any], kind: str, told: str):
    with pytest.raises(InputError, match=told):
        check_objective(Loss(**settings), kind)
    check_objective(Loss(**settings), {"epsilon": "v_prediction", "v_prediction": "epsilon"}[kind])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"min_timestep": 500, "max_timestep": 500}, "min_timestep 500 is not below max_timestep 500"),
        ({"timestep_weights": "0:1, 0:2"}, "do not ascend"),
        ({"timestep_weights": "5:0"}, "all weights are 0"),
        ({"timestep_weights": "5"}, "pairs of timestep and weight"),
        ({"timestep_weights": {1000: 1}}, "less than 1000"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], told: str):
    with pytest.raises(ValueError, match=told):
        Loss(**settings)
