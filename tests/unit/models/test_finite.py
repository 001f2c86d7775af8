"""NaN is told and never a black picture: by the UNet or the VAE, in half precision or in float32, while a LoRA trains or is measured."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel

import fashion_ml as fm
from fashion_ml.config import Evaluation, load_config
from fashion_ml.errors import InputError
from fashion_ml.evaluation.generate import ImageFolder, Job, generate
from fashion_ml.models.finite import NotFiniteError
from fashion_ml.models.half_precision import as_evaluated, lower_pipeline, lower_vae
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.models.vae import decode_latents, load_vae
from fashion_ml.runs.inputs import read_sources
from fashion_ml.runs.lora_samples import sampler

JOBS = [Job(0, "a", "a red dress", 7, (64, 64)), Job(1, "b", "a blue shirt", 8, (64, 64))]
SETTINGS = Evaluation(num_inference_steps=2)
NAN = float("nan")


@pytest.fixture(params=[torch.bfloat16, torch.float32])
def overflowing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """Let every UNet give NaN for the second image of a batch where its weights are in this precision."""
    plain = UNet2DConditionModel.forward

    def forward(unet: Any, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        found = plain(unet, sample, *args, **kwargs)
        if unet.dtype == request.param:
            (found[0] if isinstance(found, tuple) else found.sample)[-1] = NAN
        return found

    monkeypatch.setattr(UNet2DConditionModel, "forward", forward)
    return request.param


def said_by_us(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Warnings alone: another test of this process may have let lines through."""
    return [record.message for record in caplog.records if record.name == "fashion_ml" and record.levelno >= logging.WARNING]


def test_an_image_of_nan_is_an_error_that_names_it_and_what_helps_and_is_not_kept(
    overflowing: torch.dtype, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    pipeline, kept = load_pipeline("embedded"), ImageFolder(tmp_path / "images", "key")
    lower_pipeline(pipeline, "cpu", overflowing)
    half = overflowing == torch.bfloat16
    said = "bf16 for b, .*; use evaluation.precision no$" if half else "float32 for b, .*; its weights are no good"
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(InputError, match=rf"^evaluation\.precision: the UNet gives NaN .*{said}"),
    ):
        list(generate(pipeline, JOBS, SETTINGS, kept))
    assert not said_by_us(caplog)  # above all not that the VAE is to blame
    assert kept.files() == []


def test_a_vae_that_gives_nan_is_named(monkeypatch: pytest.MonkeyPatch):
    pipeline = load_pipeline("embedded")
    plain = pipeline.vae.decode
    monkeypatch.setattr(pipeline.vae, "decode", lambda z, **options: tuple(one * NAN for one in plain(z, **options)))
    with pytest.raises(
        NotFiniteError, match=r"the VAE gives NaN or infinity in float32 for a, .*; give another evaluation\.vae"
    ):
        list(generate(pipeline, JOBS, SETTINGS))


def test_latents_that_are_nan_and_a_vae_that_gives_nan_are_no_pictures_of_a_stargan(monkeypatch: pytest.MonkeyPatch):
    vae, latents = load_vae("embedded"), torch.zeros(2, 4, 8, 8)
    with pytest.raises(NotFiniteError, match=r"^optimizer\.learning_rate: the latents of pictures are NaN"):
        decode_latents(vae, latents.index_fill(0, torch.tensor(1), NAN))
    torch.nn.init.constant_(vae.decoder.conv_out.bias, NAN)
    with pytest.raises(NotFiniteError, match=r"^model\.vae: it gives NaN or infinity in torch\.float32"):
        decode_latents(vae, latents)


@pytest.mark.parametrize("measured_in", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("trained_in", [torch.float32, torch.bfloat16])
def test_images_of_a_training_are_decoded_as_an_evaluation_decodes_and_under_no_autocast(
    trained_in: torch.dtype, measured_in: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    """Bit for bit as a VAE that an evaluation has lowered; the UNet alone is under autocast, and what the VAE encodes by stays as it is."""
    pipeline, latents, seen = load_pipeline("embedded", unet_dtype=trained_in), list[torch.Tensor](), set[tuple[str, bool]]()
    vae, before = pipeline.vae, pipeline.vae.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    plain = type(vae).decode

    def decode(self: Any, z: torch.Tensor, **options: Any) -> Any:
        seen.add(("vae", torch.is_autocast_enabled("cpu")))
        latents.append(z)
        return plain(self, z, **options)

    monkeypatch.setattr(type(vae), "decode", decode)
    pipeline.unet.conv_in.register_forward_pre_hook(lambda *_: seen.add(("unet", torch.is_autocast_enabled("cpu"))))
    pipeline.text_encoder.register_forward_pre_hook(lambda *_: seen.add(("text encoder", torch.is_autocast_enabled("cpu"))))
    autocast: Any = nullcontext if trained_in == torch.float32 else partial(torch.autocast, "cpu", trained_in)
    with as_evaluated(pipeline, autocast, measured_in):
        made = [one for _, part in generate(pipeline, JOBS, SETTINGS) for one in part]
    assert seen == {("vae", False), ("text encoder", False), ("unet", trained_in != torch.float32)}
    assert pipeline.vae is vae
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    assert "forward" not in vars(pipeline.unet)
    assert "decode" not in vars(vae)
    own = load_vae("embedded")
    lower_vae(own, measured_in)
    (given,) = latents
    with torch.no_grad():
        pictures = pipeline.image_processor.postprocess(own.decode(given).sample, output_type="pil")
    assert [one.tobytes() for one in made] == [one.tobytes() for one in pictures]


FEW: dict[str, Any] = {
    "data.train_data_dir": "embedded",
    "resolution": 64,
    "rank": 2,
    "references": "embedded",
    "max_references": 2,
    "images_per_reference": 1,
    "num_inference_steps": 1,
    "resamples": 10,
    "extra_metrics": [],
    "evaluation.precision": "bf16",
}


@pytest.mark.parametrize("overflowing", [torch.float32], indirect=True)
def test_samples_of_nan_are_left_out_and_said(
    overflowing: torch.dtype, workdir: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    config = load_config({**FEW, "training.sample_every": 1})
    pipeline = load_pipeline("embedded")
    sample = sampler(config, pipeline, read_sources(config), None, workdir / "out", Accelerator(cpu=True))
    assert sample is not None
    with caplog.at_level(logging.WARNING):
        sample(3)
    assert [one.partition(": ")[0] for one in said_by_us(caplog)] == ["Sample images of step 3 are left out"]
    assert not list((workdir / "out").rglob("*.png"))


@pytest.mark.parametrize("overflowing", [torch.bfloat16], indirect=True)
def test_a_training_is_measured_in_float32_where_half_precision_gives_nan_and_says_so(
    overflowing: torch.dtype, workdir: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        outcome = fm.train_lora({"model.base": "embedded", **FEW, "steps": 2}, folder="out", track=False)
    assert outcome.evaluation is not None
    assert outcome.evaluation.facts["precision"] == "no"
    (said,) = [one for one in caplog.messages if "NaN" in one]
    assert said.startswith("evaluation.precision: the UNet gives NaN or infinity in bf16 for ")
    assert said.endswith("; all is measured anew in float32, as with evaluation.precision no")
