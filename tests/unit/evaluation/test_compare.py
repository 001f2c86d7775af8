"""Two evaluations side by side: paired or refused, and no verdict without proof."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from fashion_ml.deploy.champion import against_base
from fashion_ml.errors import InputError
from fashion_ml.evaluation.compare import Difference, Evaluated, compare, differences, noted, refuse_different, to_dict
from fashion_ml.evaluation.verdicts import verdict_of
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
    assert found.gain.ends is None  # two references
    assert found.verdict == ""


@pytest.mark.parametrize("column", [{"reference": ["a", "a", "c", "c"]}, {"seed": ["1", "2", "3", "5"]}])
def test_other_references_or_other_seeds_are_not_paired_with_anything(column: dict[str, list[object]]):
    with pytest.raises(InputError, match="one and two do not have the same references and seeds"):
        differences(evaluated("one"), evaluated("two", **column), resamples=50)


def test_a_loss_that_falls_is_a_gain():
    one, two = (evaluated(name, visual_loss=[loss] * 4) for name, loss in (("one", 0.5), ("two", 0.2)))
    by_metric = {entry.metric: entry for entry in differences(one, two, resamples=50)}
    assert by_metric["visual_loss"].gain.mean == pytest.approx(0.3)
    assert by_metric["ssim"].gain.mean == 0
    assert by_metric["ssim"].verdict == ""
    assert by_metric["visual_loss"].why == "2 references are fewer than 6, with which no test can reach p < 0.05"


@pytest.mark.parametrize(
    ("interval", "p", "verdict"),
    [
        (Interval(0.2, 0.1, 0.3), 0.01, "better"),
        (Interval(-0.2, -0.3, -0.1), 0.01, "worse"),
        (Interval(0.2, 0.1, 0.3), 0.05, "not shown"),
        (Interval(0.2, -0.1, 0.5), 0.01, "not shown"),
        (Interval(-0.2, -0.5, 0.1), 0.01, "not shown"),
        (Interval(0.2, 0.0, 0.5), 0.01, "not shown"),
        (Interval(-0.2, -0.5, 0.0), 0.01, "not shown"),
        (Interval(0.2, None, None), 0.01, "not shown"),
    ],
)
def test_a_verdict_needs_a_small_p_and_an_interval_that_does_not_hold_0(interval: Interval, p: float, verdict: str):
    assert verdict_of(interval, p) == verdict


def many(run_id: str, shift: float, count: int = 10) -> Evaluated:
    """`count` references of two images, all better by about `shift` than 0.5."""
    names = [f"r{i:02d}" for i in range(count)]
    rows = [(name, str(seed), 0.5 - shift * (1 + 0.05 * i)) for i, name in enumerate(names) for seed in range(2)]
    table = pd.DataFrame(rows, columns=["reference", "seed", "weighted_total_loss"])
    return Evaluated(run_id, run_id, {"fingerprint": "f"}, table)


def test_two_files_are_compared_as_files_and_never_as_recipes():
    result = compare(many("one", 0.0), many("two", 0.1))
    assert result.claim == "this file"
    assert result.sentence.startswith("This file has weighted_total_loss 0.3775, the first 0.5000; gain +0.1225 [")
    assert ": better.\n" in result.sentence
    assert "this recipe" not in result.sentence.lower()
    assert "is easily missed; to find half of it takes " in result.sentence
    row = result.table.set_index("metric").loc["weighted_total_loss"]
    assert (row["verdict"], row["n"]) == ("better", 10)
    assert row["gain"] > 0
    assert row["sees"] > 0
    few = compare(many("one", 0.0, 3), many("two", 0.1, 3))
    assert "no verdict: 3 references are fewer than 6" in few.sentence


UNREAD = "the encoder cannot read these pictures: noise is nearer"


def test_where_the_encoder_cannot_read_the_pictures_there_is_no_verdict_by_it(tmp_path: Path):
    """visual_loss takes no encoder and keeps its verdict. What the report of one of the two says is enough."""
    one, two = (many(name, shift) for name, shift in (("one", 0.0), ("two", 0.1)))
    for side in (one, two):
        side.table["visual_loss"] = side.table["fashion_clip_loss"] = side.table["weighted_total_loss"]
    folder = tmp_path / "two"
    folder.mkdir()
    two.table.to_csv(folder / "per_image.csv", index=False)
    (folder / "fingerprint.json").write_text(json.dumps(two.facts), encoding="utf-8")
    check = {"readable": False, "line": UNREAD}
    (folder / "evaluation_report.json").write_text(json.dumps({"ruler": {"encoder_check": check}}), encoding="utf-8")
    result = compare(one, folder)
    verdicts = {entry.metric: (entry.verdict, entry.why) for entry in result.differences}
    assert verdicts["visual_loss"] == ("better", "")
    assert verdicts["fashion_clip_loss"] == verdicts["weighted_total_loss"] == ("", UNREAD)
    assert f"no verdict: {UNREAD}" in result.sentence
    against = two.table.assign(base_weighted_total_loss=0.6)
    own, blind = (against_base(replace(two, table=against, unread=unread)) for unread in ("", UNREAD))
    assert own is not None
    assert blind is not None
    assert (own.verdict, blind.verdict, blind.why) == ("better", "", UNREAD)


def test_free_prompts_of_two_files_are_paired_by_prompt():
    """Leaks: 0.3 - 0.1 and 0.1 - 0.1 on two prompts, so 0.1; the other file's 0.1 - 0.1 twice, so 0: a gain of 0.1. Of the prompts with the
    trigger the first file's images show both, the other's one of two."""
    rows = {"group": ["without_trigger"] * 2 + ["with_trigger"] * 2, "prompt": ["a", "b", "c", "d"], "seed": ["1"] * 4}
    base = {"base_similarity_to_references": [0.1] * 4, "base_editability": [None, None, 1.0, 1.0]}
    found = []
    for similar, edited in (([0.3, 0.1, 0.5, 0.5], [1.0, 1.0]), ([0.1, 0.1, 0.5, 0.7], [1.0, 0.0])):
        table = {"similarity_to_references": similar, "editability": [None, None, *edited]}
        found.append(replace(evaluated(str(len(found))), free=pd.DataFrame({**rows, **table, **base})))
    by_metric = {entry.metric: entry for entry in differences(*found, resamples=50)}
    assert (by_metric["leak"].first, by_metric["leak"].other) == pytest.approx((0.1, 0.0))
    gains = {name: by_metric[name].gain.mean for name in ("leak", "look", "editability")}
    assert gains == pytest.approx({"leak": 0.1, "look": 0.1, "editability": -0.5})
    assert by_metric["leak"].verdict == ""


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
    entry = Difference("ssim", 0.2, 0.4, Interval(0.2, 0.1, 0.3), verdict="better")
    tree = to_dict(evaluated("one"), {"two": [entry]}, [])
    assert tree["first"] == "one"
    assert tree["compared"]["two"]["ssim"]["gain"] == {"mean": 0.2, "low": 0.1, "high": 0.3, "n": None}
    assert (tree["compared"]["two"]["ssim"]["first"], tree["compared"]["two"]["ssim"]["verdict"]) == (0.2, "better")
    assert tree["claim"] == "this file"


def test_below_six_references_nothing_is_said_of_what_could_be_seen():
    assert "is easily missed" not in compare(many("one", 0.0, 5), many("two", 0.1, 5)).sentence
    assert "is easily missed; to find half of it takes " in compare(many("one", 0.0, 6), many("two", 0.1, 6)).sentence


def test_the_targets_of_a_stargans_contents_are_no_seeds_of_which_there_could_be_more():
    one, two = many("one", 0.0), many("two", 0.1)
    for evaluation in (one, two):
        evaluation.table.drop(columns="seed", inplace=True)
    (entry,) = compare(one, two).differences
    assert entry.power is not None
    assert (entry.power.seeds, entry.power.for_half_more_seeds) == (1, None)
    assert "seeds each" not in compare(one, two).sentence
