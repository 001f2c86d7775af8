"""Pictures against other references than their own."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from PIL import Image

from fashion_ml.evaluation.aggregate import Comparison, compare
from fashion_ml.evaluation.controls import Controls, losses_of, others_of, parts_of_gain
from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.metrics.bootstrap import Interval
from fashion_ml.metrics.picture import Picture
from fashion_ml.metrics.registry import METRICS, SIMILARITY_OF

_MEASURED = {*SIMILARITY_OF, *SIMILARITY_OF.values()}
WEIGHTS = {"visual_loss": 0.2, "fashion_clip_loss": 0.6, "color_loss": 0.2}


@pytest.mark.parametrize(("count", "rotations"), [(2, 4), (5, 4), (24, 4), (24, 1)])
def test_the_others_are_derangements_that_never_meet(count: int, rotations: int):
    """Each turn is a permutation without a fixed point, and no two of them send a reference to the same other."""
    others = others_of(count, rotations)
    turns = list(zip(*others, strict=True))
    assert len(turns) == min(rotations, count - 1)
    for turn in turns:
        assert sorted(turn) == list(range(count))
        assert all(other != one for one, other in enumerate(turn))
    assert all(len(set(some)) == len(some) for some in others)
    assert others == others_of(count, rotations)


def test_a_near_duplicate_is_no_other_reference():
    others = others_of(6, 4, alike=[0, 1, 0, 3, 4, 5])
    assert all(2 not in others[0] and 0 not in others[2] for _ in "x")
    assert [len(some) for some in others] == [4] * 6
    assert others_of(2, 4, alike=[0, 0]) == [[], []]
    assert others_of(1, 4) == [[]]


def suite() -> MetricSuite:
    return MetricSuite(encoder=None, weights=WEIGHTS, metrics=tuple(metric for metric in METRICS if metric.name in _MEASURED))


def noise(seed: int, size: tuple[int, int] = (16, 16)) -> Image.Image:
    picture = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(picture.numpy())


def test_a_picture_is_measured_against_others_and_what_is_left_is_specific():
    """A copy of its reference: the loss is 0, so what is specific is the whole loss against the others."""
    references = [Picture(noise(seed), torch.eye(3)[seed]) for seed in range(3)]
    instruments = suite()
    own = instruments.measure([references[0]], [references[0]])
    found = Controls(references, others_of(3, 4), losses_of(instruments)).measure([references[0]], [0], own)
    against = instruments.measure([references[0]] * 2, references[1:]).mean()
    assert found["others_visual_loss"].item() == pytest.approx(against["visual_loss"])
    assert found["specific_visual_loss"].item() == pytest.approx(against["visual_loss"])
    assert found["others_fashion_clip_loss"].item() == pytest.approx(1)  # right angles
    assert (own["visual_loss"].item(), own["fashion_clip_loss"].item()) == (0, 0)


def test_references_of_other_sizes_are_brought_to_that_of_the_pictures_own():
    references = [Picture(noise(0), torch.eye(2)[0]), Picture(noise(1, (24, 12)), torch.eye(2)[1])]
    controls = Controls(references, others_of(2, 4), losses_of(suite()))
    assert controls.at(1, (16, 16)).image.size == (16, 16)
    assert controls.at(1, (16, 16)).embedding is references[1].embedding
    assert controls.at(0, (16, 16)) is references[0]


def test_without_another_reference_nothing_is_specific():
    references = [Picture(noise(0), torch.eye(2)[0])]
    own = suite().measure(references, references)
    found = Controls(references, others_of(1, 4), losses_of(suite())).measure(references, [0], own)
    assert found.columns.tolist() == []
    assert isinstance(own.join(found), pd.DataFrame)


def test_the_gain_is_that_on_others_and_what_is_specific_and_contributes_by_its_weight():
    def score(gain: float) -> Comparison:
        zero = Interval(0, None, None)
        return Comparison(zero, zero, Interval(gain, gain - 0.01, gain + 0.01))

    scores = {
        "color_loss": score(0.05),
        "others_color_loss": score(0.04),
        "specific_color_loss": score(0.01),
        "weighted_total_loss": score(0.02),
        "visual_loss": score(0.1),
    }
    found = parts_of_gain(scores, WEIGHTS)
    assert set(found) == {"color_loss"}  # the rest was not measured on others
    assert found["color_loss"]["own"] == {**vars(scores["color_loss"].gain)}
    assert found["color_loss"]["contribution"] == pytest.approx({"own": 0.01, "others": 0.008, "specific": 0.002})


def test_what_is_specific_is_each_pictures_own():
    """The first picture is a copy of its reference (loss 0), the second of the other's, so it is nearer to that: below 0."""
    references = [Picture(noise(seed), torch.eye(2)[seed]) for seed in range(2)]
    own = suite().measure([references[0], references[0]], references)
    found = Controls(references, others_of(2, 1), losses_of(suite())).measure([references[0], references[0]], [0, 1], own)
    assert found["specific_fashion_clip_loss"].tolist() == pytest.approx([1, -1])
    assert found["others_fashion_clip_loss"].tolist() == pytest.approx([1, 0])


def test_the_gain_on_ones_own_reference_is_that_on_others_and_the_specific_one():
    """Loss 0.5 -> 0.3 on its own, 0.6 -> 0.55 on others: 0.05 of the gain of 0.2 is common, 0.15 specific (0.1 -> 0.25)."""

    def side(own: float, others: float) -> pd.DataFrame:
        return pd.DataFrame({"color_loss": [own], "others_color_loss": [others], "specific_color_loss": [others - own]})

    scores = compare(side(0.5, 0.6), side(0.3, 0.55), ["a"], resamples=10)
    gains = {name: one.gain.mean for name, one in scores.items() if one.gain is not None}
    assert gains == pytest.approx({"color_loss": 0.2, "others_color_loss": 0.05, "specific_color_loss": 0.15})
