from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
from PIL import Image

from fashion_ml.config import Evaluation
from fashion_ml.data.images import CaptionedImage
from fashion_ml.evaluation.fingerprint import difference, evaluation_facts, fingerprint
from fashion_ml.evaluation.generate import image_seed
from fashion_ml.evaluation.measure import make_metric_suite
from fashion_ml.metrics.attributes import Attributes
from fashion_ml.metrics.fashion_clip import FashionClip


def test_everything_that_changes_a_score_changes_the_fingerprint(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def mark(
        caption: str = "a",
        weights: str = "abc",
        sampler: str = "DDIM",
        size: int = 64,
        name: str = "embedded",
        attributes: str | None = None,
        **settings: object,
    ) -> str:
        encoder = FashionClip(name, weights, torch.nn.Linear(1, 1), None, None) if weights else None
        checked = Evaluation(extra_metrics=(), **settings)  # type: ignore[arg-type]
        suite = make_metric_suite(checked, encoder, "cpu")
        if attributes:
            suite.reader = SimpleNamespace(attributes=Attributes((), attributes))  # type: ignore[assignment]
        references = [CaptionedImage(tmp_path / "a.png", caption, "a.png")]
        return fingerprint(evaluation_facts(checked, references, suite, [(size, size)], sampler))

    changed = [
        mark(caption="b"),
        mark(weights="abd"),
        mark(sampler="Euler"),
        mark(size=128),
        mark(weights=""),
        mark(attributes="f00"),
        mark(seed=1),
        mark(images_per_reference=3),
        mark(num_inference_steps=26),
        mark(guidance_scale=7.0),
        mark(resamples=100),
    ]
    assert len({mark(), *changed}) == len(changed) + 1
    assert mark() == mark(batch_size=9)  # changes speed, not numbers
    assert mark() == mark(name="local-dir:/models/clip")  # the same weights at another place


def test_what_differs_is_named():
    assert difference({"seed": 1, "encoder": "a", "steps": 3}, {"seed": 2, "encoder": "b", "steps": 3}) == ["seed: 1, 2"]


def test_the_seed_of_an_image_depends_on_its_reference_alone():
    assert image_seed(0, "a.png", 0) == image_seed(0, "a.png", 0)
    assert (
        len({image_seed(0, "a.png", 0), image_seed(0, "a.png", 1), image_seed(0, "b.png", 0), image_seed(1, "a.png", 0)}) == 4
    )
