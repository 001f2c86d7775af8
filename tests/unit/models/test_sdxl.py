"""Stable Diffusion XL's captions and sizes against diffusers' pipeline, and against what kohya's trainer does, written out here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from fashion_ml.errors import InputError
from fashion_ml.models.families.family import Family, Sizes
from fashion_ml.models.families.known import family_of
from fashion_ml.models.families.sdxl import StableDiffusionXL, time_ids
from fashion_ml.models.shared_base import shared_base
from fashion_ml.models.stable_diffusion import encode_captions, load_pipeline, prompt_embeddings
from fashion_ml.models.text_encoding import Embedded, TextSettings
from tests.tiny_sdxl import write_tiny_sdxl

CAPTIONS = ["a red dress, zarya style", "", "a long blue coat " * 30]
USUAL = TextSettings(usual_clip_skip=2)


@pytest.fixture(scope="module")
def pipeline(sdxl: Path) -> Any:
    return load_pipeline(str(sdxl))


@pytest.fixture(scope="module")
def theirs(sdxl: Path) -> Any:
    found = StableDiffusionXLPipeline.from_pretrained(sdxl, add_watermarker=False)
    found.set_progress_bar_config(disable=True)
    return found


def test_a_folder_is_told_by_its_unet_and_every_part_is_frozen_float32(pipeline: Any):
    assert isinstance(family_of(pipeline), StableDiffusionXL)
    assert type(family_of(load_pipeline("embedded"))) is Family
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        module = getattr(pipeline, part)
        assert not module.training
        assert all(one.dtype == torch.float32 and not one.requires_grad for one in module.parameters())


def test_half_precision_alone_is_enough_and_the_vae_computes_in_float32(tmp_path: Path):
    found = load_pipeline(str(write_tiny_sdxl(tmp_path / "half", variant="fp16")))
    assert found.vae.dtype == found.text_encoder_2.dtype == torch.float32


@pytest.mark.parametrize("part", ["text_encoder_2", "tokenizer_2"])
def test_a_folder_that_lacks_a_part_of_the_second_text_encoder_is_told(part: str, sdxl: Path, tmp_path: Path):
    folder = shutil.copytree(sdxl, tmp_path / "base")
    shutil.rmtree(folder / part)
    with pytest.raises(InputError, match=rf"lacks {part} \(not there, or empty\): half a download"):
        load_pipeline(str(folder))


def test_a_unet_that_is_told_something_else_is_refused(sdxl: Path, tmp_path: Path):
    """The refiner's has five sizes and no first text encoder."""
    folder = shutil.copytree(sdxl, tmp_path / "base")
    config = json.loads((folder / "text_encoder_2" / "config.json").read_text("utf-8"))
    (folder / "text_encoder_2" / "config.json").write_text(json.dumps(config | {"projection_dim": 40}), "utf-8")
    with pytest.raises(InputError, match=r"model\.base: "):
        load_pipeline(str(folder))
    shutil.rmtree(folder)
    shutil.copytree(sdxl, folder)
    listed = json.loads((folder / "model_index.json").read_text("utf-8"))
    (folder / "model_index.json").write_text(json.dumps(listed | {"text_encoder": [None, None]}), "utf-8")
    shutil.rmtree(folder / "text_encoder")
    with pytest.raises(InputError, match=r"is a StableDiffusionXLPipeline without text_encoder"):
        load_pipeline(str(folder))


def test_captions_are_those_of_diffusers_pipeline(pipeline: Any, theirs: Any):
    ours = encode_captions(pipeline, CAPTIONS, USUAL)
    assert isinstance(ours, Embedded)
    hidden, _, pooled, _ = theirs.encode_prompt(CAPTIONS, device="cpu", do_classifier_free_guidance=False)
    torch.testing.assert_close(ours.hidden, hidden, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.pooled, pooled, rtol=0, atol=1e-5)


def test_clip_skip_counts_layers_from_the_end_and_the_summary_stays(pipeline: Any, theirs: Any):
    """3 is what diffusers calls 1."""
    ours = encode_captions(pipeline, CAPTIONS, TextSettings(clip_skip=3, usual_clip_skip=2))
    hidden, _, pooled, _ = theirs.encode_prompt(CAPTIONS, device="cpu", do_classifier_free_guidance=False, clip_skip=1)
    assert isinstance(ours, Embedded)
    torch.testing.assert_close(ours.hidden, hidden, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.pooled, pooled, rtol=0, atol=1e-5)
    family = family_of(pipeline)
    family.check_clip_skip(2, pipeline)
    for clip_skip in (1, 4):
        with pytest.raises(InputError, match=rf"model\.clip_skip: {clip_skip} is no layer that captions of .* use 2 to 3"):
            family.check_clip_skip(clip_skip, pipeline)
    assert TextSettings(clip_skip=2, usual_clip_skip=2).unusual() == {}
    assert USUAL.to_dict()["clip_skip"] == 2


@pytest.mark.parametrize("length", [150, 225])
def test_long_captions_are_read_in_chunks_as_kohyas_trainer_reads_them(length: int, pipeline: Any, theirs: Any):
    """Hidden states of each chunk without its ends, BOS of the first and the end of the last around them; the summary of the first chunk, at
    its end token."""
    caption = "a long blue coat with pockets, " * 18
    states, summary = [], None
    for tokenizer, encoder in ((theirs.tokenizer, theirs.text_encoder), (theirs.tokenizer_2, theirs.text_encoder_2)):
        inner = tokenizer(caption, add_special_tokens=False).input_ids[:length]
        inner += [tokenizer.eos_token_id] + [tokenizer.pad_token_id] * length
        chunks = [inner[first : first + 75] for first in range(0, length, 75)]
        ends = [tokenizer.eos_token_id if one[-1] != tokenizer.pad_token_id else one[-1] for one in chunks]
        ids = torch.tensor([[tokenizer.bos_token_id, *one, end] for one, end in zip(chunks, ends, strict=True)])
        if tokenizer.pad_token_id != tokenizer.eos_token_id:
            ids[1:, 1][ids[1:, 1] == tokenizer.pad_token_id] = tokenizer.eos_token_id
        with torch.no_grad():
            found = encoder(ids, output_hidden_states=True)
        state = found.hidden_states[-2]
        states.append(torch.cat([state[0, :1], *(one[1:-1] for one in state), state[-1, -1:]]))
        last = found.last_hidden_state[0, (ids[0] == tokenizer.eos_token_id).int().argmax()]
        summary = last if encoder is theirs.text_encoder else encoder.text_projection(last).detach()
    ours = encode_captions(pipeline, [caption], TextSettings(length, usual_clip_skip=2))
    assert isinstance(ours, Embedded)
    assert ours.hidden.shape == (1, length + 2, 80)
    torch.testing.assert_close(ours.hidden[0], torch.cat(states, dim=-1), rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.pooled[0], summary, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("original", "seen", "expected", "right"),
    [
        ((1000, 1500), (832, 1216), (1500, 1000, 0, 10, 1216, 832), 11),  # 810.67 columns: 10 left of them, 11.33 right
        ((1500, 1000), (1024, 1024), (1000, 1500, 170, 0, 1024, 1024), 0),
        ((1024, 1024), (1024, 1024), (1024, 1024, 0, 0, 1024, 1024), 0),
        ((640, 481), (1152, 896), (481, 640, 15, 0, 896, 1152), 0),
        ((481, 640), (896, 1152), (640, 481, 0, 15, 1152, 896), 15),  # 865.8 columns: 15 left of them, 15.2 right
        ((39, 64), (64, 64), (64, 39, 0, 12, 64, 64), 13),
    ],
)
def test_sizes_are_those_of_kohyas_trainer(
    original: tuple[int, int], seen: tuple[int, int], expected: tuple[int, ...], right: int
):
    """Worked out by hand from its rule: fitted into what is seen, whole pixels of the margin. Mirrored ones have the margin of the other
    side, what is left of the width behind the left one and the picture."""
    assert time_ids(Sizes(original, seen)) == expected
    assert time_ids(Sizes(original, seen, mirrored=True)) == (*expected[:3], right, *expected[4:])


def test_sizes_of_a_picture_that_is_seen_whole_are_those_of_diffusers_pipeline(pipeline: Any, theirs: Any):
    caption = encode_captions(pipeline, ["a dress"], USUAL)
    ours = family_of(pipeline).with_sizes(caption, [Sizes((96, 64), (96, 64))])
    ids = theirs._get_add_time_ids((64, 96), (0, 0), (64, 96), torch.float32, 48)
    assert isinstance(ours, Embedded)
    torch.testing.assert_close(ours.sizes, ids)


def images(pipeline: Any, **asked: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.from_numpy(
        pipeline(
            **asked, height=64, width=64, num_inference_steps=2, guidance_scale=3.0, generator=generator, output_type="np"
        ).images
    )


@pytest.mark.parametrize("negative", ["", "blurry"])
def test_embedded_prompts_give_the_images_of_the_prompts(negative: str, pipeline: Any):
    """An empty negative prompt is zeros, as the base says."""
    embedded = prompt_embeddings(pipeline, ["a red dress"], [negative], USUAL)
    asked = {"prompt": ["a red dress"], **({"negative_prompt": [negative]} if negative else {})}
    torch.testing.assert_close(images(pipeline, **embedded), images(pipeline, **asked), rtol=0, atol=1e-5)


def test_a_training_lends_its_base(pipeline: Any):
    shared = shared_base(pipeline)
    assert all(
        one.data_ptr() == other.data_ptr()
        for part in ("unet", "text_encoder_2")
        for one, other in zip(getattr(shared, part).parameters(), getattr(pipeline, part).parameters(), strict=True)
    )
    assert torch.equal(images(shared, prompt="a red dress"), images(pipeline, prompt="a red dress"))
