"""How images are sampled, by the names that WebUIs give it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr

_LINEAR = {"timestep_spacing": "linspace"}
"""Noise levels evenly over all timesteps, as k-diffusion, and so the WebUIs, choose them; diffusers' bases say `leading` for DDIM."""
_SDE = {"algorithm_type": "sde-dpmsolver++"}
_KARRAS = {"use_karras_sigmas": True}
SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", _LINEAR),
    "euler_a": ("EulerAncestralDiscreteScheduler", _LINEAR),
    "heun": ("HeunDiscreteScheduler", _LINEAR),
    "dpm++_2m": ("DPMSolverMultistepScheduler", _LINEAR),
    "dpm++_2m_karras": ("DPMSolverMultistepScheduler", _LINEAR | _KARRAS),
    "dpm++_2m_sde": ("DPMSolverMultistepScheduler", _LINEAR | _SDE),
    "dpm++_2m_sde_karras": ("DPMSolverMultistepScheduler", _LINEAR | _SDE | _KARRAS),
    "unipc": ("UniPCMultistepScheduler", _LINEAR),
}
FLOATING_TIMESTEPS = ("euler", "euler_a", "heun")
"""Those whose timesteps lie between the whole numbers, which half precision would round."""
_NOT_FROM_PURE_NOISE = ("heun",)
"""Samplers whose classes in diffusers have no `rescale_betas_zero_snr`."""
"""Each sampler's class in diffusers and what it is made with beside the base's own settings: DDIM (Song et al. 2020, arXiv:2010.02502), Euler
and Heun (Karras et al. 2022, arXiv:2206.00364), DPM-Solver++ (Lu et al. 2022, arXiv:2211.01095), UniPC (Zhao et al. 2023, arXiv:2302.04867)."""


def timesteps_in(sampler: str, precision: str) -> str | None:
    """`float32` where a sampler's timesteps reach a UNet of half precision unrounded and could have been rounded; None where there is no such
    difference."""
    return "float32" if sampler in FLOATING_TIMESTEPS and precision in ("fp16", "bf16") else None


def scheduler_of(own: Any, sampler: str) -> Any:
    """A diffusers scheduler that samples by that name, for a base whose DDIM scheduler is `own`, which is used as it is for `ddim`."""
    if sampler == "ddim":
        return own
    import diffusers

    name, options = SAMPLERS[sampler]
    if own.config.get("rescale_betas_zero_snr"):
        if sampler in _NOT_FROM_PURE_NOISE:
            raise InputError(
                tr(
                    "evaluation.sampler: {sampler} cannot begin in pure noise, where this base's schedule ends; use "
                    "euler, or ddim",
                    sampler=sampler,
                )
            )
        options = {**options, "timestep_spacing": "trailing"}
    return getattr(diffusers, name).from_config(own.config, **options)


@contextmanager
def sampled_by(pipeline: Any, sampler: str) -> Iterator[None]:
    """A pipeline that samples by that name for a block of work; afterwards it has its own scheduler again, which training reads too."""
    own = pipeline.scheduler
    pipeline.scheduler = scheduler_of(own, sampler)
    try:
        yield
    finally:
        pipeline.scheduler = own
