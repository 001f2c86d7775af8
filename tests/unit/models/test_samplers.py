"""Samplers by the WebUIs' names: the noise levels that k-diffusion would choose, and the formulas of their papers."""

from __future__ import annotations

import inspect
import math
from typing import get_args

import numpy as np
import pytest
import torch

from fashion_ml.config import Evaluation
from fashion_ml.config.base import Sampler
from fashion_ml.errors import InputError
from fashion_ml.models.samplers import SAMPLERS, sampled_by, scheduler_of
from fashion_ml.models.stable_diffusion import load_pipeline


@pytest.fixture(scope="module")
def own() -> object:
    return load_pipeline("embedded").scheduler


def test_every_name_of_the_setting_is_a_sampler_and_the_other_way_round():
    assert tuple(SAMPLERS) == get_args(Sampler)


@pytest.mark.parametrize(
    ("said", "meant"), [("Euler a", "euler_a"), ("DPM++ 2M Karras", "dpm++_2m_karras"), ("DDIM", "ddim"), ("UniPC", "unipc")]
)
def test_the_names_of_webuis_are_understood(said: str, meant: str):
    assert Evaluation(sampler=said).sampler == meant  # type: ignore[arg-type]


def test_ddim_is_the_bases_own_scheduler_as_it_is(own: object):
    assert scheduler_of(own, "ddim") is own


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "heun"])
def test_samplers_begin_in_pure_noise_where_the_schedule_ends_there(sampler: str):
    """At the last of 1,000 timesteps, with at least a thousand times as much noise as image; and a step from there is finite."""
    own = load_pipeline("embedded", prediction_type="v_prediction", zero_terminal_snr=True).scheduler
    scheduler = scheduler_of(own, sampler)
    scheduler.set_timesteps(5)
    assert scheduler.timesteps[0] == 999
    assert scheduler.alphas_cumprod[-1] < 1e-6
    noise, draw = torch.randn(1, 4, 8, 8), torch.Generator().manual_seed(0)
    more = {"generator": draw} if "generator" in inspect.signature(scheduler.step).parameters else {}
    sample = scheduler.scale_model_input(noise * scheduler.init_noise_sigma, scheduler.timesteps[0])
    assert scheduler.step(noise, scheduler.timesteps[0], sample, **more).prev_sample.isfinite().all()


def test_heun_says_that_it_cannot_begin_there():
    own = load_pipeline("embedded", prediction_type="v_prediction", zero_terminal_snr=True).scheduler
    with pytest.raises(InputError, match=r"evaluation\.sampler: heun cannot begin in pure noise"):
        scheduler_of(own, "heun")


def levels(own: object) -> np.ndarray:
    """sigma = sqrt((1 - abar) / abar) of every timestep of the base."""
    abar = own.alphas_cumprod.double().numpy()  # type: ignore[attr-defined]
    return np.sqrt((1 - abar) / abar)


@pytest.mark.parametrize("sampler", ["euler", "euler_a"])
def test_eulers_noise_levels_are_those_of_k_diffusion(sampler: str, own: object):
    """k-diffusion's get_sigmas: t from the last timestep to 0 in equal steps, log sigma linear between timesteps, then 0."""
    scheduler = scheduler_of(own, sampler)
    scheduler.set_timesteps(7)
    all_levels = levels(own)
    at = np.linspace(len(all_levels) - 1, 0, 7)
    expected = np.exp(np.interp(at, np.arange(len(all_levels)), np.log(all_levels)))
    np.testing.assert_allclose(scheduler.sigmas.numpy(), [*expected, 0], rtol=0.02)
    assert scheduler.sigmas[0].item() == pytest.approx(all_levels[-1], rel=1e-4)


@pytest.mark.parametrize("sampler", ["dpm++_2m_karras", "dpm++_2m_sde_karras"])
def test_karras_noise_levels_are_those_of_the_paper(sampler: str, own: object):
    """Equation 5 of Karras et al. 2022 with rho 7, between the base's least and largest level."""
    scheduler = scheduler_of(own, sampler)
    scheduler.set_timesteps(5)
    low, high = (levels(own)[index] ** (1 / 7) for index in (0, -1))
    expected = [(high + index / 4 * (low - high)) ** 7 for index in range(5)]
    np.testing.assert_allclose(scheduler.sigmas.numpy(), [*expected, 0], rtol=1e-4)


def test_one_step_of_euler_is_the_ode_of_the_paper(own: object):
    """x' = x + (sigma_next - sigma) eps for a model that predicts eps."""
    scheduler = scheduler_of(own, "euler")
    scheduler.set_timesteps(4)
    x, eps = torch.tensor([[[[2.0]]]]), torch.tensor([[[[0.5]]]])
    found = scheduler.step(eps, scheduler.timesteps[0], x).prev_sample
    first, second = scheduler.sigmas[:2].tolist()
    assert found.item() == pytest.approx(2 + (second - first) * 0.5, rel=1e-5)


def test_a_step_of_dpm_2m_is_the_multistep_formula_of_the_paper(own: object):
    """x' = sigma'/sigma x + alpha' (1 - e^-h) ((1 + 1/2r) x0 - 1/2r x0_before): DPM-Solver++(2M) in the units of alpha and sigma."""
    scheduler = scheduler_of(own, "dpm++_2m_karras")
    scheduler.set_timesteps(20)
    s = scheduler.sigmas.double().tolist()
    alpha = [1 / math.sqrt(1 + one**2) for one in s]
    sigma = [one * a for one, a in zip(s, alpha, strict=True)]
    x, given = torch.tensor([[[[1.0]]]], dtype=torch.float64), (0.3, -0.2)
    data = []
    for index, eps in enumerate(given):
        data.append((x.item() - sigma[index] * eps) / alpha[index])
        before = x.item()
        x = scheduler.step(torch.full_like(x, eps), scheduler.timesteps[index], x).prev_sample
    lam = [math.log(a / b) for a, b in zip(alpha[:3], sigma[:3], strict=True)]
    h, r = lam[2] - lam[1], (lam[1] - lam[0]) / (lam[2] - lam[1])
    d = (1 + 1 / (2 * r)) * data[1] - 1 / (2 * r) * data[0]
    expected = sigma[2] / sigma[1] * before + alpha[2] * (1 - math.exp(-h)) * d
    assert x.item() == pytest.approx(expected, rel=1e-4)


def test_a_pipeline_has_its_own_scheduler_again_also_after_an_error():
    pipeline = load_pipeline("embedded")
    before = pipeline.scheduler
    with pytest.raises(KeyError), sampled_by(pipeline, "euler_a"):
        pipeline.scheduler = {}[type(pipeline.scheduler).__name__]
    assert pipeline.scheduler is before


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_makes_the_same_picture_of_a_seed_and_another_of_another_one(sampler: str):
    pipeline = load_pipeline("embedded")

    def made(seed: int) -> bytes:
        with sampled_by(pipeline, sampler):
            draws = [torch.Generator().manual_seed(one) for one in (seed, 5)]
            options = {"num_inference_steps": 3, "guidance_scale": 3.0, "height": 32, "width": 32}
            return bytes(pipeline(["a red dress"] * 2, generator=draws, **options).images[0].tobytes())

    assert made(1) == made(1) != made(2)
