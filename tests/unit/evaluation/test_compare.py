"""Two evaluations side by side: paired or refused, and no verdict without proof."""

from __future__ import annotations

import pandas as pd
import pytest

from fashion_ml.errors import InputError
from fashion_ml.evaluation.compare import Difference, Evaluated, differences, noted, refuse_different, to_dict
from fashion_ml.metrics.bootstrap import Interval


def evaluated(run_id: str, facts: dict[str, object] | None = None, **columns: list[object]) -> Evaluated:
    table = {"reference": ["a", "a", "b", "b"], "seed": ["1", "2", "3", "4"], "ssim": [0.1, 0.3, 0.5, 0.5], **columns}
    return Evaluated(run_id, run_id, facts or {"fingerprint": "f"}, pd.DataFrame(table))


def test_pairs_are_those_of_the_same_reference_and_seed_whatever_their_order():
    """Seeds of a reference average first: a goes from 0.2 to 0.5, b from 0.5 to 0.6: gains 0.3 and 0.1."""
    other = evaluated("two", reference=["b", "a", "b", "a"], seed=["4", "2", "3", "1"], ssim=[0.7, 0.6, 0.5, 0.4])
    (found,) = differences(evaluated("one"), other, resamples=200)
    assert (found.metric, found.first, found.other) == ("ssim", pytest.approx(0.35), pytest.approx(0.55))
    assert found.gain.mean == pytest.approx(0.2)
    assert found.gain.ends == pytest.approx((0.1, 0.3))
    assert found.verdict == "better"


@pytest.mark.parametrize("column", [{"reference": ["a", "a", "c", "c"]}, {"seed": ["1", "2", "3", "5"]}])
def test_other_references_or_other_seeds_are_not_paired_with_anything(column: dict[str, list[object]]):
    with pytest.raises(InputError, match="one and two do not have the same references and seeds"):
        differences(evaluated("one"), evaluated("two", **column), resamples=50)


def test_a_loss_that_falls_is_a_gain():
    one, two = (evaluated(name, visual_loss=[loss] * 4) for name, loss in (("one", 0.5), ("two", 0.2)))
    by_metric = {entry.metric: entry for entry in differences(one, two, resamples=50)}
    assert by_metric["visual_loss"].gain.mean == pytest.approx(0.3)
    assert by_metric["ssim"].gain.mean == 0
    assert by_metric["ssim"].verdict == "no clear difference"


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        (Interval(0.2, 0.1, 0.3), "better"),
        (Interval(-0.2, -0.3, -0.1), "worse"),
        (Interval(0.2, -0.1, 0.5), "no clear difference"),
        (Interval(-0.2, -0.5, 0.1), "no clear difference"),
        (Interval(0.2, 0.0, 0.5), "no clear difference"),
        (Interval(-0.2, -0.5, 0.0), "no clear difference"),
        (Interval(0.2, None, None), "no clear difference"),
    ],
)
def test_a_verdict_needs_an_interval_that_does_not_hold_0(interval: Interval, verdict: str):
    assert Difference("ssim", 0.0, interval.mean, interval).verdict == verdict


def test_evaluations_that_were_measured_differently_are_refused_and_what_differs_is_named():
    one = evaluated("one", {"fingerprint": "f", "seed": 0})
    refuse_different([one, evaluated("two", {"fingerprint": "f", "seed": 0})])
    with pytest.raises(InputError, match="one and two were measured differently; seed: 0, 1"):
        refuse_different([one, evaluated("two", {"fingerprint": "g", "seed": 1})])
    with pytest.raises(InputError, match="fingerprint: made by another version"):
        refuse_different([one, evaluated("two", {"fingerprint": "g", "seed": 0})])


def test_library_versions_that_differ_are_told_and_refuse_nothing():
    one = evaluated("one", {"fingerprint": "f", "versions": {"torch": "2.8.0", "diffusers": "0.35"}})
    other = evaluated("two", {"fingerprint": "f", "versions": {"torch": "2.9.0", "diffusers": "0.35"}})
    refuse_different([one, other])
    (line,) = noted(one, [evaluated("same", one.facts), other])
    assert line.startswith("one and two were measured with different versions")
    assert line.endswith("torch: 2.8.0, 2.9.0")


def test_the_json_holds_each_metrics_numbers_and_its_verdict():
    entry = Difference("ssim", 0.2, 0.4, Interval(0.2, 0.1, 0.3))
    tree = to_dict(evaluated("one"), {"two": [entry]}, [])
    assert tree["first"] == "one"
    assert tree["compared"]["two"]["ssim"]["gain"] == {"mean": 0.2, "low": 0.1, "high": 0.3}
    assert (tree["compared"]["two"]["ssim"]["first"], tree["compared"]["two"]["ssim"]["verdict"]) == (0.2, "better")
