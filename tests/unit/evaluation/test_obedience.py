"""Columns of prompts and variety, and what they are held against, with an encoder whose embeddings are written down."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pytest
import torch

from fashion_ml.config import Evaluation
from fashion_ml.evaluation.instruments import load_encoder
from fashion_ml.evaluation.measure import Arm, MetricSuite, make_metric_suite
from fashion_ml.evaluation.obedience import Asked, measure_obedience, say_cut
from fashion_ml.metrics.fashion_clip import FashionClip

EAST, NORTH, BETWEEN = [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]
TEXTS = {"a dress": EAST, "a hat": NORTH}


class Encoder(FashionClip):
    """Knows two texts."""

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([TEXTS[text] for text in texts])


def suite(*switches: str) -> MetricSuite:
    encoder = Encoder("e", "w", torch.nn.Linear(1, 1), None, None)
    return make_metric_suite(Evaluation(extra_metrics=switches), encoder, "cpu")  # type: ignore[arg-type]


def arm(*embeddings: list[float]) -> Arm:
    return Arm(pd.DataFrame(index=range(len(embeddings))), torch.tensor(embeddings))


def test_every_image_is_held_against_its_own_prompt_and_the_references_against_theirs():
    """Two references, two seeds each. The dress came out as (1, 0) and (0.6, 0.8): similarities 1 and 0.6, and the second is nearer to the hat.
    Both hats are (0, 1): similarity 1, first, and no variety; the dresses' variety is 1 - 0.6. The reference of the hat is (0.6, 0.8): 0.8."""
    asked = Asked(["d.png", "d.png", "h.png", "h.png"], [0, 0, 1, 1], ["a dress", "a hat"])
    lora, base = arm(EAST, BETWEEN, NORTH, NORTH), arm(NORTH, NORTH, EAST, EAST)
    held = measure_obedience([lora, base], asked, torch.tensor([EAST, BETWEEN]), suite("prompts", "diversity"), 50)
    assert lora.table["prompt_similarity"].tolist() == pytest.approx([1, 0.6, 1, 1])
    assert lora.table["prompt_retrieval"].tolist() == [1, 0, 1, 1]
    assert lora.table["diversity_seeds"].tolist() == pytest.approx([0.4, 0.4, 0, 0])
    assert base.table["prompt_retrieval"].tolist() == [0, 0, 0, 0]
    means = {name: one.mean for name, one in held.items()}
    assert means == pytest.approx({
        "reference_prompt_similarity": (1 + 0.8) / 2,
        "reference_prompt_retrieval": 1,
        "prompt_retrieval_chance": 0.5,
        "reference_diversity": 1 - 0.6,
    })  # fmt: skip


def test_equal_prompts_are_one_and_a_prompt_of_nothing_has_no_value():
    """Three references, two of one prompt: chance is 1 / 2. With one prompt left there is no retrieval."""
    asked = Asked(["a", "b", "c", "d"], [0, 1, 2, 3], ["a dress", "a dress", "a hat", ""])
    one = arm(EAST, EAST, NORTH, NORTH)
    held = measure_obedience([one], asked, torch.tensor([EAST, EAST, NORTH, NORTH]), suite("prompts"), 50)
    assert held["prompt_retrieval_chance"].mean == 0.5
    assert one.table["prompt_similarity"].tolist()[:3] == [1, 1, 1]
    assert one.table["prompt_similarity"].isna().tolist() == [False, False, False, True]
    alone = arm(EAST, NORTH)
    measure_obedience([alone], Asked(["a", "b"], [0, 1], ["a dress"] * 2), torch.tensor([EAST, EAST]), suite("prompts"), 50)
    assert list(alone.table) == ["prompt_similarity"]


def test_one_seed_has_no_variety_and_what_is_not_asked_for_is_not_there():
    one = arm(EAST, NORTH)
    asked = Asked(["a", "b"], [0, 1], ["a dress", "a hat"])
    held = measure_obedience([one], asked, torch.tensor([EAST, NORTH]), suite("diversity"), 50)
    assert one.table["diversity_seeds"].isna().all()
    assert held == {}
    assert measure_obedience([one], asked, torch.tensor([EAST, NORTH]), suite(), 50) == {}


def test_prompts_that_the_encoder_cannot_read_to_their_end_are_counted():
    """The embedded encoder reads 32 tokens. Punctuation at the end is no word."""
    encoder = load_encoder("embedded")
    long = "a red dress " * 20
    assert encoder.cut(["a red dress.", long, long + "hat", "", "..."]) == [False, True, True, False, False]


def test_that_a_prompt_is_cut_is_said(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    say_cut(["a dress", "a red dress " * 20, ""], load_encoder("embedded"))
    assert "1 of 3 prompts are longer than the 32 tokens that the encoder reads" in caplog.text


def test_what_the_references_get_is_theirs_whatever_the_images_show():
    """Both references show the other's prompt, at right angles to their own: 0, and no image of them does."""
    asked = Asked(["d", "h"], [0, 1], ["a dress", "a hat"])
    held = measure_obedience([arm(EAST, NORTH)], asked, torch.tensor([NORTH, EAST]), suite("prompts"), 50)
    assert (held["reference_prompt_similarity"].mean, held["reference_prompt_retrieval"].mean) == (0, 0)
