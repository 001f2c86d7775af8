"""The loss of a batch by the settings of an experiment: which error, and what each timestep counts for."""

from __future__ import annotations

import torch

from fashion_ml.config import Loss
from fashion_ml.errors import InputError
from fashion_ml.losses.diffusion import (
    debiased_weight,
    huber_c,
    min_snr_weight,
    noise_like_weight,
    per_image_huber,
    per_image_l1,
    per_image_log_cosh,
    per_image_mse,
    per_image_smooth_l1,
    snr,
)
from fashion_ml.runtime.language import tr


def check_objective(settings: Loss, prediction_type: str) -> None:
    """InputError for a weighting that is meant for bases of the other prediction type."""
    by_v = prediction_type == "v_prediction"
    wrong = {
        "scale_v_pred_loss_like_noise_pred": (settings.scale_v_pred_loss_like_noise_pred and not by_v, "noise"),
        "v_pred_like_loss": (settings.v_pred_like_loss > 0 and by_v, "v"),
    }
    for name, (holds, what) in wrong.items():
        if holds:
            raise InputError(
                tr(
                    "loss.{name}: this base predicts {what}, whose loss is weighted so already; leave it out",
                    name=name,
                    what=what,
                )
            )


def error_of(
    settings: Loss,
    prediction: torch.Tensor,
    target: torch.Tensor,
    alphas_cumprod: torch.Tensor,
    timesteps: torch.Tensor,
    weights: torch.Tensor | None,
) -> torch.Tensor:
    """The error of each image, (B,), of predictions and targets (B, 4, h, w) at their timesteps (B,); `weights` as for `per_image_mse`."""
    if settings.loss_type in ("huber", "smooth_l1"):
        c = huber_c(settings.huber_schedule, settings.huber_c, alphas_cumprod, timesteps)
        pseudo_huber = per_image_huber if settings.loss_type == "huber" else per_image_smooth_l1
        return pseudo_huber(prediction, target, c, weights)
    if settings.loss_type == "l1":
        return per_image_l1(prediction, target, weights)
    if settings.loss_type == "log_cosh":
        return per_image_log_cosh(prediction, target, weights)
    return per_image_mse(prediction, target, weights)


def weighted_by_timestep(
    settings: Loss,
    losses: torch.Tensor,
    alphas_cumprod: torch.Tensor,
    timesteps: torch.Tensor,
    prediction_type: str,
    curve: torch.Tensor | None,
) -> torch.Tensor:
    """The losses of images (B,) with all weights of their timesteps (B,); `curve` has one for each timestep of the schedule."""
    if settings.min_snr_gamma is not None:
        losses = losses * min_snr_weight(snr(alphas_cumprod, timesteps), settings.min_snr_gamma, prediction_type)
    if settings.scale_v_pred_loss_like_noise_pred:
        losses = losses * noise_like_weight(snr(alphas_cumprod, timesteps))
    if settings.v_pred_like_loss:
        losses = losses + losses / noise_like_weight(snr(alphas_cumprod, timesteps)) * settings.v_pred_like_loss
    if settings.debiased_estimation:
        losses = losses * debiased_weight(snr(alphas_cumprod, timesteps), prediction_type)
    return losses if curve is None else losses * curve[timesteps]
