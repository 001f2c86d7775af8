"""The training objective of a LoRA experiment: which noise at which timesteps, and what the error counts for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from fashion_ml.config.base import AnyCase, NotNegative, Rate, Section, Share, Text
from fashion_ml.runtime.language import tr

TIMESTEPS = 1000
"""Of Stable Diffusion's noise schedule."""


def _points(value: Any) -> Any:
    """`0:1, 500:2` and `{0: 1, 500: 2}` as pairs."""
    if isinstance(value, str):
        value = [part.split(":") for part in value.split(",") if part.strip()]
    elif isinstance(value, Mapping):
        value = list(value.items())
    if isinstance(value, list | tuple) and not all(isinstance(one, list | tuple) and len(one) == 2 for one in value):
        raise ValueError(tr("a curve is pairs of timestep and weight, such as 0:1, 500:2, 999:0.5"))
    return value


Timestep = Annotated[int, Field(ge=0, lt=TIMESTEPS)]
Curve = Annotated[tuple[tuple[Timestep, NotNegative], ...], BeforeValidator(_points)]


class Loss(Section):
    """The training objective."""

    loss_type: Annotated[Literal["l2", "l1", "huber", "smooth_l1", "log_cosh"], AnyCase] = "l2"
    """Squared or absolute error; pseudo-Huber (arXiv:2403.16728), which outliers move less, and the same divided by huber_c as kohya's
    smooth_l1; or the logarithm of cosh (arXiv:2208.04564), half the square of small errors and the size of large ones."""
    huber_c: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Where pseudo-Huber turns from square to linear."""
    huber_schedule: Literal["constant", "exponential", "snr"] = "snr"
    """How huber_c depends on the timestep."""
    min_snr_gamma: Rate | None = None
    """Min-SNR weighting (arXiv:2303.09556), 5 in the paper; off when not given."""
    debiased_estimation: bool = False
    """Weighting by 1 / sqrt(snr) (arXiv:2310.08442)."""
    scale_v_pred_loss_like_noise_pred: bool = False
    """Weight the loss of a v-prediction base by snr / (snr + 1), so that timesteps count as in noise prediction."""
    v_pred_like_loss: NotNegative = 0.0
    """Of a noise-prediction base: this much of the loss as v-prediction would weight it is added, (snr + 1) / snr of it."""
    timestep_weights: Curve = ()
    """What timesteps count for, as points of a curve that is straight between them and level outside: `0:1, 500:2, 999:0.5`; 1 all over when
    not given."""
    min_timestep: Timestep = 0
    """Timesteps are drawn from here on; low ones have little noise, and are about fine detail."""
    max_timestep: Annotated[int, Field(ge=1, le=TIMESTEPS)] = TIMESTEPS
    """Timesteps are drawn below this."""
    timestep_distribution: Annotated[Literal["uniform", "logit_normal", "mode"], AnyCase] = "uniform"
    """How timesteps are drawn between the two: evenly, or more often in the middle (arXiv:2403.03206, section 3.1)."""
    logit_mean: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Mean of logit_normal before the sigmoid; above 0 there is more noise, below less."""
    logit_std: Rate = 1.0
    """Its standard deviation; smaller is nearer to the middle."""
    mode_scale: Annotated[float, Field(ge=-1, le=1.75, allow_inf_nan=False)] = 1.29
    """Of mode: 0 is uniform, above it the middle comes more often, below the ends."""
    noise_offset: NotNegative = 0.0
    """Strength of a constant added to each channel's noise; 0.05 to 0.1 is usual."""
    multires_noise_iterations: Annotated[int, Field(ge=0, le=50)] = 0
    """Coarser noise is added on up to so many scales, which lets large areas learn their brightness; 6 to 10 is usual, 0 is off."""
    multires_noise_discount: Share = 0.3
    """Each coarser scale counts this much of the one before; 0.1 to 0.3 goes with noise_offset's ends, 0.8 is strong."""
    ip_noise_gamma: NotNegative = 0.0
    """Input perturbation (arXiv:2301.11706): images get this much more noise than they are to lose; 0.1 in the paper."""
    prior_loss_weight: NotNegative = 1.0
    """Weight of the prior images' loss when data.reg_data_dir is given."""
    output_preservation_prompt: Text | None = None
    """A prompt of the class, such as `a dress`, for which the base's own output is held on to while the look is learnt: given it, the LoRA is
    to say of the same noisy images what the base says. Nothing is held on to when not given; with it a step takes more than twice as long."""
    output_preservation_weight: NotNegative = 1.0
    """What the squared distance to the base's output counts for beside the loss of the images."""
    unmasked_weight: Share = 0.0
    """What the error outside the masks of `data.masks` counts for; 1 is as without masks."""

    @model_validator(mode="after")
    def _one_weighting(self) -> Loss:
        if self.min_snr_gamma is not None and self.debiased_estimation:
            raise ValueError(tr("min_snr_gamma and debiased_estimation both weight by the timestep; keep one of them"))
        return self

    @model_validator(mode="after")
    def _some_timesteps(self) -> Loss:
        if self.min_timestep >= self.max_timestep:
            raise ValueError(
                tr(
                    "min_timestep {min_timestep} is not below max_timestep {max_timestep}; leave one of them out, or "
                    "give 0 and {timesteps}",
                    min_timestep=self.min_timestep,
                    max_timestep=self.max_timestep,
                    timesteps=TIMESTEPS,
                )
            )
        return self

    @model_validator(mode="after")
    def _a_curve(self) -> Loss:
        steps = [step for step, _ in self.timestep_weights]
        if steps != sorted(set(steps)):
            raise ValueError(
                tr("timestep_weights: the timesteps {steps} do not ascend; give each once, from small to large", steps=steps)
            )
        if steps and not any(weight for _, weight in self.timestep_weights):
            raise ValueError(tr("timestep_weights: all weights are 0, so nothing is learnt; give at least one above it"))
        return self
