"""A StarGAN's pictures against other references of their domain: what is the domain's look, and what a reference's own."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from PIL import Image

from fashion_ml.evaluation.gan_controls import others_of_domain, with_controls
from fashion_ml.metrics.picture import Picture
from fashion_ml.metrics.registry import asked_for

WEIGHTS = {"visual_loss": 0.2, "fashion_clip_loss": 0.6, "color_loss": 0.2}
EAST, NORTH = (1.0, 0.0), (0.0, 1.0)


def picture(embedding: tuple[float, float]) -> Picture:
    return Picture(Image.new("RGB", (16, 16), "red"), torch.tensor(embedding))


def test_others_are_of_the_same_domain_and_never_the_reference_itself():
    references = [(0, 3), (1, 0), (0, 5), (0, 7), (2, 1)]
    others = others_of_domain(references, 4)
    assert [sorted(one) for one in others] == [[2, 3], [], [0, 3], [0, 2], []]
    assert all(len(one) == 1 for one in others_of_domain(references, 1)[:1])


def test_what_takes_the_domain_and_not_the_reference_has_nothing_specific():
    """Two references of one domain, (1, 0) and (0, 1). The first picture is its reference: loss 0, against the other 1. The second is the other
    reference: loss 1, against the other 0. The third's reference is alone in its domain."""
    made = [picture(EAST), picture(EAST), picture(EAST)]
    targets = [picture(EAST), picture(NORTH), picture(NORTH)]
    own = pd.DataFrame({"fashion_clip_loss": [0.0, 1.0, 1.0], "color_loss": [0.0, 0.0, 0.0], "visual_loss": [0.1, 0.1, 0.1]})
    metrics = asked_for(["stargan"], (), encoder=True)
    found = with_controls(own, made, targets, [(0, 0), (0, 1), (1, 0)], metrics, WEIGHTS, 4)
    assert found["others_fashion_clip_loss"].tolist()[:2] == pytest.approx([1, 0])
    assert found["specific_fashion_clip_loss"].tolist()[:2] == pytest.approx([1, -1])
    assert found.loc[2, ["others_fashion_clip_loss", "specific_color_loss"]].isna().all()
    assert "others_visual_loss" not in found  # the shape is the content's
    assert with_controls(own, made, targets, [(0, 0), (0, 1), (1, 0)], metrics, WEIGHTS, 0) is own
