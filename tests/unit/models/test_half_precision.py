"""Half precision for images: what is lowered, what is not, and what happens where it overflows."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fashion_ml.config import Evaluation, validate
from fashion_ml.data.encoded_images import EncodedCaptions, EncodedImages
from fashion_ml.errors import InputError
from fashion_ml.evaluation.fingerprint import fingerprint
from fashion_ml.evaluation.generate import Job, generate, generation_key
from fashion_ml.metrics.ssim import ssim
from fashion_ml.models.half_precision import lower_pipeline, lower_vae
from fashion_ml.models.samplers import FLOATING_TIMESTEPS, SAMPLERS, timesteps_in
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.models.vae import decode_latents, keep_decoder, load_vae
from fashion_ml.runtime.float32 import exact_float32
from fashion_ml.runtime.gpu_memory import visiting
from fashion_ml.training import precision
from fashion_ml.training.precision import check_precision, settled

JOBS = [Job(0, "a", "a red dress", 7, (64, 64)), Job(1, "b", "a blue shirt", 8, (64, 64))]
SETTINGS = Evaluation(num_inference_steps=3)


def pictures(pipeline: Any) -> list[Any]:
    return [picture for _, part in generate(pipeline, JOBS, SETTINGS) for picture in part]


def test_lowered_to_float32_a_pipeline_makes_the_same_images_bit_for_bit():
    pipeline = load_pipeline("embedded")
    before = [one.tobytes() for one in pictures(pipeline)]
    lower_pipeline(pipeline, "cpu", torch.float32)
    assert [one.tobytes() for one in pictures(pipeline)] == before


def test_in_bf16_the_unet_and_the_vae_compute_in_it_from_the_same_noise_and_the_sampler_and_text_encoder_stay_float32():
    pipeline = load_pipeline("embedded")
    before, seen = pictures(pipeline), list[tuple[torch.dtype, torch.dtype]]()
    lower_pipeline(pipeline, "cpu", torch.bfloat16)
    lower_pipeline(pipeline, "cpu", torch.bfloat16)  # as behind another LoRA file
    assert (pipeline.unet.dtype, pipeline.vae.dtype, pipeline.text_encoder.dtype) == (
        torch.bfloat16,
        torch.bfloat16,
        torch.float32,
    )
    first = pipeline.unet.conv_in.register_forward_pre_hook(lambda _, args: seen.append((args[0].dtype, torch.bfloat16)))
    after = pictures(pipeline)
    first.remove()
    assert set(seen) == {(torch.bfloat16, torch.bfloat16)}
    assert all(ssim(a, b) > 0.97 for a, b in zip(before, after, strict=True))  # 8 bits of mantissa, the same initial noise


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_half_precision_rounds_no_timestep(sampler: str):
    """1000 is the nearest that bf16 has to 999; only samplers that are called floating have timesteps of that kind."""
    pipeline, told, wanted = load_pipeline("embedded"), list[float](), list[torch.Tensor]()
    lower_pipeline(pipeline, "cpu", torch.bfloat16)

    def note(_: Any, args: tuple[torch.Tensor]) -> None:
        told.append(float(args[0].flatten()[0]))
        wanted.append(pipeline.scheduler.timesteps)

    pipeline.unet.time_proj.register_forward_pre_hook(note)
    list(generate(pipeline, JOBS, SETTINGS.model_copy(update={"sampler": sampler})))
    assert wanted[0].is_floating_point() == (sampler in FLOATING_TIMESTEPS)
    assert told == wanted[0].tolist()


def test_what_overflows_in_bf16_is_decoded_again_in_float32_whatever_came_before_it(caplog: pytest.LogCaptureFixture):
    """The second picture overflows: the others are those of bf16, and it is that of float32, from the same rounded weights."""
    vae, latents = load_vae("embedded"), torch.randn(3, 4, 8, 8)
    latents[1, 0, 0, 0] = 9.0
    lowered, usual = copy.deepcopy(vae), copy.deepcopy(vae)
    lower_vae(usual, torch.bfloat16)
    in_half = [decode_latents(usual, one[None])[0].tobytes() for one in latents]
    plain = lowered.decode

    def overflowing(z: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        found = plain(z, *args, **kwargs)
        if z.dtype == torch.bfloat16:
            found.sample[z[:, 0].flatten(1).amax(1) > 8] = torch.inf
        return found

    lowered.decode = overflowing
    lower_vae(lowered, torch.bfloat16)
    with caplog.at_level(logging.WARNING, "fashion_ml"):
        found = [decode_latents(lowered, one[None])[0].tobytes() for one in (*latents, *latents)]
    assert found[:3] == found[3:]
    assert [found[0], found[2]] == [in_half[0], in_half[2]]
    in_float32 = decode_latents(copy.deepcopy(vae).bfloat16().float(), latents[1:2])[0].tobytes()
    assert (
        max(abs(one - other) for one, other in zip(found[1], in_float32, strict=True)) <= 2
    )  # of 255: the latents are rounded
    assert lowered.dtype == torch.bfloat16
    assert [record.message for record in caplog.records] == [
        "evaluation.precision: the VAE overflows in bf16; what does is decoded again in float32"
    ]
    assert len({one.tobytes() for one in decode_latents(lowered, latents)}) == 3


def test_a_picture_that_does_not_fit_in_float32_leaves_a_vae_that_decodes_in_bf16():
    """The batch is halved then, and decoded again."""
    vae = load_vae("embedded")
    plain, full = vae.decode, [torch.OutOfMemoryError("CUDA out of memory")]

    def overflowing(z: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if z.dtype == torch.float32 and full:
            raise full.pop()
        found = plain(z, *args, **kwargs)
        if z.dtype == torch.bfloat16:
            found.sample[:] = torch.nan
        return found

    vae.decode = overflowing
    lower_vae(vae, torch.bfloat16)
    z = torch.randn(1, 4, 8, 8)
    with pytest.raises(torch.OutOfMemoryError):
        vae.decode(z)
    assert vae.dtype == torch.bfloat16
    assert vae.decode(z).sample.isfinite().all()


def test_a_vae_is_never_lowered_to_fp16():
    vae = load_vae("embedded")
    lower_vae(vae, torch.float16)
    assert vae.dtype == torch.float32


@pytest.mark.parametrize(
    ("asked", "device", "capability", "expected"),
    [
        ("auto", "cpu", (0, 0), "no"),
        ("auto", "cuda", (9, 0), "bf16"),
        ("auto", "cuda", (7, 5), "fp16"),  # a T4
        ("no", "cuda", (9, 0), "no"),
        ("bf16", "cpu", (0, 0), "bf16"),
        ("fp16", "cuda", (9, 0), "fp16"),
    ],
)
def test_auto_is_what_the_device_has_in_hardware(
    asked: str, device: str, capability: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert settled(asked, device) == expected


def test_fp16_without_a_gpu_is_refused_and_emulated_bf16_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(InputError, match=r"evaluation\.precision: fp16 needs a CUDA GPU"):
        settled("fp16", "cpu")
    monkeypatch.setattr(precision, "has_bf16", lambda _: False)
    with caplog.at_level(logging.WARNING, "fashion_ml"):
        check_precision("bf16", "cuda")
        check_precision("bf16", "cpu")
    assert [record.message.partition(":")[0] for record in caplog.records] == ["training.mixed_precision"]


def test_precision_is_in_key_and_fingerprint_where_it_is_not_float32():
    plain = {"torch": "x"}
    assert fingerprint(plain) == fingerprint({**plain, "precision": "no"}) != fingerprint({**plain, "precision": "bf16"})
    keys = {name: generation_key(JOBS, Evaluation(precision=name), "base") for name in ("auto", "no", "fp16", "bf16")}
    assert len(set(keys.values())) == 3
    assert keys["auto"] == keys["no"]


def test_images_whose_timesteps_were_rounded_are_not_taken_for_those_whose_are_not():
    assert timesteps_in("euler", "bf16") == timesteps_in("heun", "fp16") == "float32"
    assert timesteps_in("euler", "no") is timesteps_in("ddim", "bf16") is None
    assert fingerprint({"precision": "bf16", "timesteps": None}) == fingerprint({"precision": "bf16"})
    assert fingerprint({"precision": "bf16", "timesteps": "float32"}) != fingerprint({"precision": "bf16"})


def test_what_is_called_float32_is_computed_without_tf32_and_the_switch_comes_back():
    def switches() -> tuple[bool, bool]:
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    before = switches()
    with exact_float32(tf32=True):
        assert switches() == (True, True)
        with exact_float32():  # images of a training with TF32
            assert switches() == (False, False)
        assert switches() == (True, True)
    assert switches() == before


def test_tf32_where_there_is_none_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    for device, capability, said in (("cpu", (0, 0), 1), ("cuda", (7, 5), 1), ("cuda", (8, 0), 0)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "fashion_ml"):
            check_precision("no", device, tf32=True)
            check_precision("no", device)
        assert [one.partition(": ")[0] for one in caplog.messages] == ["training.tf32"] * said


def test_latents_and_captions_of_a_gpu_have_other_keys_than_those_of_a_cpu(tmp_path: Path):
    pipeline = load_pipeline("embedded")
    item = SimpleNamespace(sha256="0" * 64)

    def keys() -> list[str]:
        images = EncodedImages(pipeline, [item], [(64, 64)], None, "vae")  # type: ignore[list-item]
        return [images._key(0, False), EncodedCaptions(pipeline, None, "text")._key("a")]

    on_cpu = keys()
    pipeline.vae.to("meta"), pipeline.text_encoder.to("meta")  # stands for another device
    assert not set(on_cpu) & set(keys())


class Full:
    """A pipeline on a GPU that holds two images at most."""

    scheduler: Any = None
    tokenizer: Any = None
    vae = SimpleNamespace(decode=None)

    def __init__(self, room: int) -> None:
        self.room, self.asked = room, list[int]()

    def __call__(self, prompts: list[str], *, height: int, width: int, **options: Any) -> Any:
        from PIL import Image

        self.asked.append(len(prompts))
        if len(prompts) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return SimpleNamespace(images=[Image.new("RGB", (width, height), (int(one), 0, 0)) for one in prompts])


def test_a_batch_that_does_not_fit_is_halved_and_the_rest_goes_on_with_that(caplog: pytest.LogCaptureFixture):
    jobs = [Job(number, f"j{number}", str(number), number, (8, 8)) for number in range(10)]
    full = Full(room=2)
    with caplog.at_level(logging.WARNING, "fashion_ml"):
        made = [p.getpixel((0, 0))[0] for _, part in generate(full, jobs, Evaluation(batch_size=5)) for p in part]
    assert made == list(range(10))
    assert full.asked == [5, 2, 2, 1, 2, 2, 1]
    assert len(caplog.records) == 1
    assert caplog.records[0].message.startswith("evaluation.batch_size: 5 images at once do not fit into the GPU's memory; 2 ")


def test_one_image_that_does_not_fit_is_one_line_with_the_settings_that_help():
    with pytest.raises(
        InputError, match=r"data\.resolution: one image of 64 x 64 does not fit into the GPU's memory; use less, or"
    ):
        list(generate(Full(room=0), JOBS, Evaluation(batch_size=2)))


def test_precision_may_be_given_to_both_trainers():
    tree = {"data": {"train_data_dir": "x"}, "evaluation": {"precision": "bf16"}}
    assert validate(tree).evaluation.precision == "bf16"


def test_beside_fp16_no_model_that_measures_is_there_while_the_vae_decodes_in_float32(monkeypatch: pytest.MonkeyPatch):
    pipeline, said, encoder = load_pipeline("embedded"), list[str](), torch.nn.Linear(1, 1)
    plain = pipeline.vae.decode

    def decode(*args: Any, **kwargs: Any) -> Any:
        said.append("decode")
        return plain(*args, **kwargs)

    monkeypatch.setattr(pipeline.vae, "decode", decode)
    lower_pipeline(pipeline, "cpu", torch.float16)
    lower_pipeline(pipeline, "cpu", torch.float16)
    assert (pipeline.unet.dtype, pipeline.vae.dtype) == (torch.float16, torch.float32)
    monkeypatch.setattr(encoder, "to", lambda place: said.append(place))
    with visiting(encoder, "cuda"):
        pass
    pipeline.vae.decode(torch.zeros(1, 4, 8, 8))
    pipeline.vae.decode(torch.zeros(1, 4, 8, 8))
    assert said == ["cuda", "cpu", "decode", "decode"]


def test_a_vae_that_only_decodes_does_so_bit_for_bit_without_the_half_that_encodes():
    vae, latents = load_vae("embedded"), torch.randn(2, 4, 8, 8)
    before, size = [one.tobytes() for one in decode_latents(vae, latents)], sum(one.numel() for one in vae.parameters())
    keep_decoder(vae)
    assert [one.tobytes() for one in decode_latents(vae, latents)] == before
    assert sum(one.numel() for one in vae.parameters()) < 0.7 * size
