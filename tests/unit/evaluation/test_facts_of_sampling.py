"""Negative prompt, sampler, VAE, score and DINOv2 decide images or numbers, so none of them is left out of a key or a fingerprint."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fashion_ml.config import Evaluation, LoraExperiment, load_config
from fashion_ml.data.images import CaptionedImage
from fashion_ml.evaluation.fingerprint import difference, evaluation_facts, fingerprint
from fashion_ml.evaluation.generate import Job, generate, generation_key
from fashion_ml.evaluation.lora_plan import Plan
from fashion_ml.evaluation.measure import make_metric_suite
from fashion_ml.evaluation.trigger import Wording
from fashion_ml.metrics.fashion_clip import FashionClip
from fashion_ml.models.applied_lora import AppliedLora
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.models.text_encoding import USUAL, TextSettings

JOBS = [Job(0, "a", "a red dress", 7, (32, 32))]


def test_images_of_another_negative_prompt_or_sampler_are_not_used_again():
    plain = generation_key(JOBS, Evaluation(), "base")
    others = [
        {"negative_prompt": "blurry"},
        {"negative_prompt": "dark"},
        {"sampler": "Euler a"},
        {"sampler": "DPM++ 2M Karras"},
    ]
    keys = {generation_key(JOBS, Evaluation(**one), "base") for one in others}  # type: ignore[arg-type]
    assert len({plain, *keys}) == 5


def planned(vae: str | None, lora: Path) -> Plan:
    """A plan of the embedded base with what decodes its images."""
    config = load_config({"train_data_dir": "embedded"})
    assert isinstance(config, LoraExperiment)
    nothing: Any = None
    applied = AppliedLora(nothing, "kohya", {})
    pipeline: Any = SimpleNamespace(unet=SimpleNamespace(config={"cross_attention_dim": 128}))
    given = (config, lora, [], [], nothing, nothing, pipeline, applied, JOBS, [(32, 32)], Wording("", []), None)
    return Plan(*given, {"vae_sha256": vae})


def test_images_that_another_vae_decoded_are_not_used_again_neither_the_loras_nor_the_bases(tmp_path: Path):
    save_file({"x": torch.zeros(1)}, lora := tmp_path / "lora.safetensors")
    plans = [planned(vae, lora) for vae in (None, "a", "b")]
    assert len({plan.key for plan in plans} | {plan.base_key for plan in plans}) == 6
    assert planned("a", lora).key == planned("a", lora).key


def facts(folder: Path, *, vae: str | None = None, dino: str = "", **settings: Any) -> dict[str, Any]:
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    encoder = FashionClip("e", "w", torch.nn.Linear(1, 1), None, None)
    checked = Evaluation(extra_metrics=(), **settings)
    suite = make_metric_suite(checked.model_copy(update={"fashion_clip_score": "cosine"}), encoder, "cpu")
    if dino:
        suite.dino = SimpleNamespace(facts=lambda: {"weights_sha256": dino})  # type: ignore[assignment]
    references = [CaptionedImage(folder / "a.png", "a", "a.png")]
    return evaluation_facts(checked, references, suite, [(64, 64)], "DDIM", {}, USUAL, vae)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"negative_prompt": "blurry"}, 'negative_prompt: "", "blurry"'),
        ({"vae": "abc"}, 'vae_sha256: null, "abc"'),
        ({"fashion_clip_score": "attributes"}, 'fashion_clip_score: "cosine", "attributes"'),
        ({"dino": "abc"}, 'dino: null, {"weights_sha256": "abc"}'),
    ],
)
def test_numbers_that_were_made_otherwise_have_another_fingerprint_and_what_differs_is_named(
    change: dict[str, Any], named: str, tmp_path: Path
):
    usual, other = facts(tmp_path), facts(tmp_path, **change)
    assert fingerprint(usual) != fingerprint(other)
    assert difference(usual, other) == [named]


def test_percentile_intervals_of_earlier_versions_do_not_compare_with_todays(tmp_path: Path):
    today = facts(tmp_path)
    before = {key: value for key, value in today.items() if key != "intervals"}
    assert fingerprint(before) != fingerprint(today)
    assert difference(before, today) == ['intervals: "percentile bootstrap", "bootstrap-t"']


def test_a_negative_prompt_counts_at_other_lengths_of_prompts_too():
    """At another length the pipeline is given embeddings, of which the negative prompt has to be a part."""
    pipeline = load_pipeline("embedded")

    def made(negative: str, text: TextSettings) -> bytes:
        settings = Evaluation(num_inference_steps=1, guidance_scale=6.0, negative_prompt=negative)
        ((_, (picture,)),) = list(generate(pipeline, JOBS, settings, text=text))
        return picture.tobytes()

    assert made("a red dress", TextSettings(150)) != made("a blue hat", TextSettings(150))
