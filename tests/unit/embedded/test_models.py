"""The embedded models are what the documents say, and the encoder looks at the garment, not at the backdrop."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from fashion_ml.config import Evaluation
from fashion_ml.embedded import EMBEDDED_DIR
from fashion_ml.embedded.garments import render, sample_garments, with_finish
from fashion_ml.embedded.making.measure import zero_shot_accuracy
from fashion_ml.embedded.making.world import attribute_indices, to_images
from fashion_ml.evaluation.measure import make_metric_suite
from fashion_ml.metrics.fashion_clip import FashionClip, cosine, embedded_source, load_fashion_clip

LOOK = sample_garments(120, 33, finish="dip-dyed")


@pytest.fixture(scope="module")
def encoder() -> FashionClip:
    return load_fashion_clip("embedded", embedded_source(EMBEDDED_DIR), "cpu")


@pytest.fixture(scope="module")
def shown() -> list[Image.Image]:
    return [render(garment) for garment in LOOK]


@pytest.fixture(scope="module")
def studio() -> list[Image.Image]:
    return [render(with_finish(garment, "studio")) for garment in LOOK]


def test_the_measured_quality_is_that_of_the_docs():
    quality = json.loads((EMBEDDED_DIR / "quality.json").read_text(encoding="utf-8"))
    assert quality["vae_ssim"] >= 0.93
    for attribute in ("kind", "colour", "pattern"):
        assert quality["zero_shot_unseen"][attribute] >= 0.99
        assert quality["zero_shot_generated"][attribute] >= 0.99
    assert quality["kid_generated"] <= 0.018
    assert sum(path.stat().st_size for path in EMBEDDED_DIR.rglob("*") if path.is_file()) <= 24e6


def test_the_collections_garments_are_read_although_the_encoder_has_never_seen_its_look(shown: list[Image.Image]):
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in shown])).permute(0, 3, 1, 2)
    truth = torch.tensor([attribute_indices(garment) for garment in LOOK])
    accuracy = zero_shot_accuracy(EMBEDDED_DIR / "fashion_clip", to_images(pixels), truth)
    assert accuracy["kind"] >= 0.98
    assert min(accuracy["colour"], accuracy["pattern"]) >= 0.95


def test_the_encoder_minds_the_look_and_reads_the_garment_first(
    encoder: FashionClip, shown: list[Image.Image], studio: list[Image.Image]
):
    """Blind to looks it could not say whether a LoRA of one has learnt it."""
    look, same = encoder.embed_images(shown), encoder.embed_images(studio)
    to_same, to_others = np.mean(cosine(look, same)), np.mean(cosine(look, torch.roll(look, 1, 0)))
    assert to_others + 0.3 < to_same < 0.92


def test_a_flat_backdrop_is_far_from_every_garment_and_the_same_garment_in_another_look_is_near(
    encoder: FashionClip, shown: list[Image.Image], studio: list[Image.Image]
):
    edge = np.asarray(shown[0])[:3].reshape(-1, 3).mean(0).astype(int)
    flat = [Image.new("RGB", (64, 64), tuple(edge.tolist()))] * len(shown)
    look, empty, same = (encoder.embed_images(pictures) for pictures in (shown, flat, studio))
    other = torch.roll(same, 1, 0)
    to_empty, to_same, to_other = (np.mean(cosine(look, others)) for others in (empty, same, other))
    assert to_same > 0.75
    assert to_empty < 0.4
    assert to_other < to_same - 0.3


def test_an_empty_backdrop_has_a_worse_total_than_the_garment_without_the_look(
    encoder: FashionClip, shown: list[Image.Image], studio: list[Image.Image]
):
    settings = Evaluation(extra_metrics=())
    suite = make_metric_suite(settings, encoder, "cpu")
    looks = suite.look_at(shown[:24])
    plum = Image.new("RGB", (64, 64), (127, 52, 95))
    totals = [
        suite.measure(suite.look_at(pictures), looks)["weighted_total_loss"].mean() for pictures in ([plum] * 24, studio[:24])
    ]
    assert totals[0] > totals[1] + 0.2
