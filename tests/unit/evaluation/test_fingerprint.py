from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image

from fashion_ml.config import Evaluation
from fashion_ml.data.images import CaptionedImage
from fashion_ml.evaluation.fingerprint import (
    VERSIONS,
    difference,
    evaluation_facts,
    fingerprint,
    measuring_facts,
    noted_difference,
)
from fashion_ml.evaluation.generate import image_seed
from fashion_ml.evaluation.measure import make_metric_suite
from fashion_ml.metrics import garment_mask
from fashion_ml.metrics.attributes import Attributes, Category
from fashion_ml.metrics.fashion_clip import FashionClip
from fashion_ml.metrics.metric import Metric
from fashion_ml.metrics.registry import metric_of
from fashion_ml.models.text_encoding import USUAL, TextSettings


def test_everything_that_changes_a_score_changes_the_fingerprint(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def mark(
        caption: str = "a",
        weights: str = "abc",
        sampler: str = "DDIM",
        size: int = 64,
        name: str = "embedded",
        attributes: str | None = None,
        categories: tuple[str, ...] = ("kind",),
        steps_offset: int = 1,
        text: TextSettings = USUAL,
        extra: tuple[str, ...] = (),
        **settings: object,
    ) -> str:
        encoder = FashionClip(name, weights, torch.nn.Linear(1, 1), None, None) if weights else None
        checked = Evaluation(extra_metrics=extra, **settings)  # type: ignore[arg-type]
        suite = make_metric_suite(checked, encoder, "cpu")
        if attributes:
            read = Attributes(tuple(Category(name, "a {}", ("a", "b")) for name in categories), attributes)
            suite.reader = SimpleNamespace(attributes=read)  # type: ignore[assignment]
        references = [CaptionedImage(tmp_path / "a.png", caption, "a.png")]
        return fingerprint(
            evaluation_facts(
                checked, references, suite, [(size, size)], sampler, {"steps_offset": steps_offset, "_class_name": name}, text
            )
        )

    changed = [
        mark(caption="b"),
        mark(weights="abd"),
        mark(sampler="Euler"),
        mark(size=128),
        mark(weights=""),
        mark(attributes="f00"),
        mark(attributes="f00", categories=("kind", "colour")),
        mark(steps_offset=0),
        mark(text=TextSettings(150)),
        mark(text=TextSettings(clip_skip=2)),
        mark(text=TextSettings(weighted_captions=True)),
        mark(extra=("ciede2000",)),
        mark(seed=1),
        mark(images_per_reference=3),
        mark(num_inference_steps=26),
        mark(guidance_scale=7.0),
        mark(rotations=3),
        mark(resamples=100),
    ]
    assert len({mark(), *changed}) == len(changed) + 1
    assert mark() == mark(batch_size=9, strict=True)  # change speed, not numbers
    assert mark() == mark(name="local-dir:/models/clip")  # the same weights at another place


def test_evaluations_from_before_captions_could_be_read_otherwise_still_compare():
    before, usual, other = {"seed": 1}, {"seed": 1, **USUAL.to_dict()}, {"seed": 1, **TextSettings(150, 2).to_dict()}
    assert fingerprint(before) == fingerprint(usual) != fingerprint(other)
    assert difference(before, usual) == []
    assert difference(before, other) == ["clip_skip: 1, 2", "max_token_length: 75, 150"]


def test_what_differs_is_named():
    assert difference({"seed": 1, "encoder": "a", "steps": 3}, {"seed": 2, "encoder": "b", "steps": 3}) == ["seed: 1, 2"]


def test_a_metrics_version_and_the_parameters_of_its_formula_are_facts():
    def facts(*metrics: Metric) -> dict[str, Any]:
        return measuring_facts(metrics, None, None, weights={}, resamples=9, libraries=("torch", "open_clip"))

    ciede2000, kid = metric_of("ciede2000"), metric_of("kid")
    told = facts(ciede2000, kid)["metrics"]
    assert told["ciede2000"]["mask"] == garment_mask.PARAMETERS
    assert told["ciede2000"]["side"] == garment_mask.SIDE
    estimator = "unbiased MMD^2 over pairs of different references and captions"
    assert told["kid"] == {"version": 2, "kernel": "(cosine + 1)^3", "estimator": estimator}
    raised = facts(replace(ciede2000, version=2), kid)
    assert difference(facts(ciede2000, kid), raised) == ["metrics.ciede2000.version: 1, 2"]
    assert fingerprint(raised) != fingerprint(facts(ciede2000, kid))


def test_versions_of_libraries_are_noted_and_refuse_nothing():
    facts = measuring_facts((), None, None, weights={}, resamples=9, libraries=("torch", "diffusers", "open_clip"))
    assert set(facts[VERSIONS]) == {"torch", "diffusers"}  # without an encoder open_clip took no part
    other = {**facts, VERSIONS: {**facts[VERSIONS], "torch": "0.1"}}
    assert fingerprint(other) == fingerprint(facts)
    assert difference(facts, other) == []
    assert noted_difference(facts, other) == [f"torch: {facts[VERSIONS]['torch']}, 0.1"]
    assert noted_difference({}, other) == []


def test_the_seed_of_an_image_depends_on_its_reference_alone():
    assert image_seed(0, "a.png", 0) == image_seed(0, "a.png", 0)
    assert (
        len({image_seed(0, "a.png", 0), image_seed(0, "a.png", 1), image_seed(0, "b.png", 0), image_seed(1, "a.png", 0)}) == 4
    )


def test_the_encoders_weights_structure_transform_and_precision_are_facts_and_its_name_is_not():
    def encoder(name: str = "embedded", weights: str = "w", model: Any = None, transform: Any = None) -> FashionClip:
        return FashionClip(name, weights, model or torch.nn.Linear(1, 1), transform, None)

    def mark(one: FashionClip, **changes: Any) -> str:
        facts = measuring_facts((), one, None, weights={}, resamples=9, libraries=())
        assert changes.keys() <= facts.keys()
        return fingerprint({**facts, **changes})

    plain = mark(encoder())
    deeper = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.GELU())
    others = [
        mark(encoder(weights="v")),
        mark(encoder(model=deeper)),
        mark(encoder(transform="bicubic")),
        mark(encoder(), encoder_precision="float16"),
    ]
    assert len({plain, *others}) == 5
    assert plain == mark(encoder(name="local-dir:/models/clip"))


def test_the_weights_of_the_losses_and_the_references_are_facts():
    def mark(**weights: float) -> str:
        one = FashionClip("embedded", "w", torch.nn.Linear(1, 1), None, None)
        return fingerprint(measuring_facts((), one, None, weights=weights, resamples=9, libraries=()))

    assert mark(visual_loss=0.2, color_loss=0.8) != mark(visual_loss=0.8, color_loss=0.2)
