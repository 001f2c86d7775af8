from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image

from fashion_ml.errors import InputError
from fashion_ml.models.stable_diffusion import (
    check_resolution,
    encode_captions,
    encode_latents,
    find_base,
    load_pipeline,
    vae_factor,
)


@pytest.fixture(scope="module")
def pipeline():  # type: ignore[no-untyped-def]
    return load_pipeline("embedded")


def test_resolution_must_divide_by_the_factor_times_eight(pipeline):  # type: ignore[no-untyped-def]
    assert vae_factor(pipeline) == 4
    check_resolution(96, pipeline)
    with pytest.raises(InputError, match=r"data\.resolution: 72 is not divisible by 32 \(the VAE's factor 4 x 8\); use 64"):
        check_resolution(72, pipeline)


def test_an_unknown_base_is_one_line():
    with pytest.raises(
        InputError,
        match=r"model\.base: 'nonsense' is not known; use embedded, an existing diffusers folder or \.safetensors file, or a hub id",
    ):
        find_base("nonsense")


def test_a_folder_that_is_no_pipeline_is_told(tmp_path: Path):
    with pytest.raises(InputError, match=r"holds no model_index\.json"):
        find_base(str(tmp_path))


def test_a_hub_id_that_cannot_be_reached_is_an_input_error():
    with pytest.raises(InputError, match=r"model\.base: 'nobody/nothing' cannot be loaded"):
        load_pipeline("nobody/nothing")


def test_everything_is_frozen_float32_and_in_evaluation_mode(pipeline):  # type: ignore[no-untyped-def]
    for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        assert not module.training
        assert all(p.dtype == torch.float32 and not p.requires_grad for p in module.parameters())


def test_a_schedule_ends_in_pure_noise_where_that_is_asked_for_and_the_base_predicts_v(pipeline):  # type: ignore[no-untyped-def]
    """The abars equal those of diffusers' rescaled DDPM, a second class of it; steps begin at the last timestep."""
    found = load_pipeline("embedded", prediction_type="v_prediction", zero_terminal_snr=True).scheduler
    other = DDPMScheduler.from_config(pipeline.scheduler.config, rescale_betas_zero_snr=True)
    torch.testing.assert_close(found.alphas_cumprod, other.alphas_cumprod)
    assert found.alphas_cumprod[-1] == 0 != pipeline.scheduler.alphas_cumprod[-1]
    found.set_timesteps(4)
    assert found.timesteps[0] == 999
    with pytest.raises(InputError, match=r"model\.zero_terminal_snr: 'embedded' predicts noise"):
        load_pipeline("embedded", zero_terminal_snr=True)


def test_latents_are_unscaled_moments(pipeline):  # type: ignore[no-untyped-def]
    pictures = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "white")]
    mean, std = encode_latents(pipeline, [pictures[:2], pictures[2:]])
    assert mean.shape == std.shape == (3, 4, 16, 16)
    image = torch.tensor([255, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 64, 64).float() / 127.5 - 1
    with torch.no_grad():
        torch.testing.assert_close(mean[:1], pipeline.vae.encode(image).latent_dist.mean, rtol=1e-4, atol=1e-4)


def test_caption_embeddings_equal_those_of_the_pipeline(pipeline):  # type: ignore[no-untyped-def]
    ours = encode_captions(pipeline, ["a red dress", ""])
    theirs, empty = pipeline.encode_prompt("a red dress", "cpu", 1, True)
    torch.testing.assert_close(ours, torch.cat([theirs, empty]))
