"""Embeddings are kept by everything that decides them, and pairs are measured with the suite's own weights."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fashion_ml.config import Evaluation
from fashion_ml.data.tensor_cache import TensorCache
from fashion_ml.evaluation.measure import MetricSuite, make_metric_suite, measure_arm
from fashion_ml.metrics.fashion_clip import FashionClip


class Model(torch.nn.Module):
    """Embeds a picture as its mean colour, and counts how often it is asked."""

    def __init__(self, *extra: torch.nn.Module):
        super().__init__()
        self.extra, self.asked = torch.nn.ModuleList(extra), 0
        self.one = torch.nn.Parameter(torch.ones(()))

    def encode_image(self, batch: torch.Tensor) -> torch.Tensor:
        self.asked += len(batch)
        return batch.mean((2, 3))


def pixels(picture: Image.Image) -> torch.Tensor:
    red, green, blue = picture.getpixel((0, 0))  # type: ignore[misc]
    return torch.tensor([red, green, blue]).float()[:, None, None].expand(3, 2, 2)


def other_pixels(picture: Image.Image) -> torch.Tensor:
    return pixels(picture).flip(0)


def suite(cache: TensorCache, model: Model, weights: str = "w", transform: Any = pixels, **settings: Any) -> MetricSuite:
    made = make_metric_suite(Evaluation(extra_metrics=(), **settings), FashionClip("e", weights, model, transform, None), "cpu")
    made.cache = cache
    return made


RED, BLUE = (Image.new("RGB", (32, 32), colour) for colour in ((255, 0, 0), (0, 0, 255)))


def test_an_embedding_is_made_once_for_each_picture_encoder_structure_and_transform():
    cache, plain = TensorCache(), Model()
    one = suite(cache, plain)
    assert torch.equal(one.embed([RED, BLUE, RED]), torch.tensor([[1.0, 0, 0], [0, 0, 1], [1, 0, 0]]))
    assert torch.equal(one.embed([BLUE]), torch.tensor([[0.0, 0, 1]]))
    assert plain.asked in (2, 3)
    for other in (
        suite(cache, Model(), weights="v"),
        suite(cache, Model(torch.nn.GELU())),
        suite(cache, Model(), transform=other_pixels),
    ):
        other.embed([RED])
        assert other.encoder is not None
        assert other.encoder.model.asked == 1


@pytest.mark.parametrize(("order", "expected"), [([[0, 1], [2]], [1, 0, 1]), ([[2, 1], [0]], [1, 0, 1])])
def test_scores_stand_in_the_order_of_the_jobs_each_against_its_own_reference(order: list[list[int]], expected: list[int]):
    """Jobs 0 and 1 are for the red reference, 2 for the blue; job 1 came out blue."""
    measuring = suite(TensorCache(), Model())
    made, references = [RED, BLUE, BLUE], measuring.look_at([RED, BLUE])
    arm = measure_arm([(batch, [made[i] for i in batch]) for batch in order], references, [0, 0, 1], measuring)
    assert arm.table["fashion_similarity"].tolist() == expected
    assert arm.embeddings is not None
    assert torch.equal(arm.embeddings[0], torch.tensor([1.0, 0, 0]))
    weights = measuring.weights
    losses = arm.table[["visual_loss", "fashion_clip_loss", "color_loss"]]
    total = sum(weights[name] * losses[name] for name in losses)
    assert arm.table["weighted_total_loss"].tolist() == pytest.approx(total.tolist())  # type: ignore[union-attr]


def test_what_cannot_be_measured_ends_the_making_of_images():
    measuring, made = suite(TensorCache(), Model()), list[int]()
    references = measuring.look_at([RED])

    class Broken(MetricSuite):
        def look_at(self, images: Any, *, keep: bool = False) -> Any:
            raise ValueError("out of order")

    def batches() -> Any:
        for number in range(1000):
            made.append(number)
            time.sleep(0.002)
            yield [number], [RED]

    broken = Broken(measuring.encoder, measuring.weights, measuring.metrics)
    with pytest.raises(ValueError, match="out of order"):
        measure_arm(batches(), references, [0] * 1000, broken)
    assert len(made) < 500


def test_a_cache_in_a_folder_serves_the_next_suite(tmp_path: Path):
    first, second = Model(), Model()
    suite(TensorCache(tmp_path), first).embed([RED])
    suite(TensorCache(tmp_path), second).embed([RED])
    assert (first.asked, second.asked) == (1, 0)
