"""The page answers: did it work, which is best, how sure; never more than the runs have measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from fashion_ml.runs.leader_words import WORDS
from fashion_ml.runs.leaders import is_wanted, overview
from fashion_ml.tracking.run_reader import RunRow

GAIN = "eval/gain_weighted_total_loss"
EXPERIMENTS = {"1": "dresses"}


def ends(name: str, mean: float, low: float, high: float) -> dict[str, float]:
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def row(name: str, kind: str = "train_lora", tags: Mapping[str, str] | None = None, **given: Any) -> RunRow:
    facts: dict[str, Any] = {"status": "FINISHED", "started": 0, "metrics": {}, "params": {}, "note": "", **given}
    return RunRow(f"id of {name}", "1", name, tags={"kind": kind, **(tags or {})}, **facts)


def lora(name: str, mean: float, low: float, high: float, verdict: str, mark: str = "a" * 64, **given: Any) -> RunRow:
    tags = {"eval.fingerprint": mark, "eval.verdict": verdict, "eval.run_id": f"evaluation of {name}", **given.pop("tags", {})}
    return row(name, tags=tags, metrics=ends(GAIN, mean, low, high), **given)


def group(*rows: RunRow, number: int = 0) -> dict[str, Any]:
    return dict(overview(rows, EXPERIMENTS, "en")["experiments"][0]["groups"][number])


def names(found: Mapping[str, Any]) -> list[str]:
    return [run["name"] for run in found["runs"]]


def test_the_largest_gain_comes_first_and_what_has_none_comes_last():
    found = group(
        lora("small", 0.01, -0.01, 0.03, "not shown"),
        row("without", tags={"eval.fingerprint": "a" * 64}),
        lora("large", 0.05, 0.02, 0.08, "better"),
        lora("negative", -0.02, -0.04, -0.01, "worse"),
    )
    assert names(found) == ["large", "small", "negative", "without"]
    assert found["verdicts"] == {"better": 1, "not shown": 1, "worse": 1}


def test_runs_of_two_fingerprints_are_never_in_one_ranking():
    rows = [lora("one", 0.05, 0.02, 0.08, "better"), lora("two", 0.09, 0.05, 0.12, "better", mark="b" * 64)]
    groups = overview(rows, EXPERIMENTS, "en")["experiments"][0]["groups"]
    assert [(one["fingerprint"], names(one)) for one in groups] == [("aaaaaaaa", ["one"]), ("bbbbbbbb", ["two"])]


def test_a_stargan_and_a_lora_of_one_fingerprint_are_not_ranked_together():
    mark = {"eval.fingerprint": "a" * 64}
    gan = row("gan", "train_stargan", mark, metrics=ends("eval/domain_accuracy", 0.3, 0.2, 0.4))
    groups = overview([gan, lora("one", 0.05, 0.02, 0.08, "better")], EXPERIMENTS, "en")["experiments"][0]["groups"]
    assert [one["algorithm"] for one in groups] == ["stargan", "lora"]


def test_what_was_not_measured_is_absent_and_never_zero():
    (run,) = group(row("bare", tags={"eval.fingerprint": "a" * 64}))["runs"]
    assert not {"value", "what", "error"} & set(run)
    assert run["verdict"] == ""
    (few,) = group(row("few", tags={"eval.fingerprint": "a" * 64}, metrics={GAIN: 0.02}))["runs"]
    assert few["value"] == {"metric": "gain_weighted_total_loss", "mean": 0.02}


def test_a_number_that_is_none_is_absent():
    found = group(row("broken", tags={"eval.fingerprint": "a" * 64}, metrics={GAIN: float("nan")}))
    assert "value" not in found["runs"][0]
    assert "said" not in found
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("better", "Largest gain of 2 files: first, gain_weighted_total_loss +0.050 [+0.020, +0.080], better than its base."),
        ("not shown", "that it is better than its base is not shown."),
        ("worse", "None of 2 files has gained: even first is worse than its base"),
        ("none", "without a verdict."),
    ],
)
def test_the_headline_says_no_more_than_the_verdict_of_the_first(verdict: str, said: str):
    found = group(lora("first", 0.05, 0.02, 0.08, verdict), lora("second", -0.05, -0.06, -0.04, "worse"))
    assert said in found["said"]


def test_which_file_is_best_is_not_shown_while_intervals_reach_into_one_another():
    near = lora("near", 0.04, 0.01, 0.07, "better")
    found = group(lora("first", 0.05, 0.02, 0.08, "better"), near, lora("far", -0.05, -0.06, -0.04, "worse"))
    first, second = (run["id"] for run in found["runs"][:2])
    assert found["said"].endswith(WORDS["en"]["near_one"].format(compare=f"fashion-ml compare {first[:8]} {second[:8]}"))
    found = group(lora("first", 0.05, 0.02, 0.08, "better"), lora("far", -0.05, -0.06, -0.04, "worse"))
    assert found["said"].endswith(WORDS["en"]["apart"])
    assert "looks better than it is" in WORDS["en"]["apart"]


def test_without_intervals_nothing_is_said_to_be_best():
    mark = {"eval.fingerprint": "a" * 64, "eval.verdict": "none"}
    found = group(row("one", tags=mark, metrics={GAIN: 0.02}), row("two", tags=mark, metrics={GAIN: 0.01}))
    assert found["said"].endswith(WORDS["en"]["no_ends"])


def test_of_images_from_elsewhere_the_lowest_loss_is_best_and_they_have_no_base():
    tags = {"eval_fingerprint": "a" * 64, "algorithm": "images"}
    rows = [
        row(name, "evaluation", tags, metrics={"weighted_total_loss": loss}) for name, loss in (("far", 0.6), ("near", 0.4))
    ]
    found = group(*rows)
    assert names(found) == ["near", "far"]
    assert found["said"].startswith("Lowest weighted_total_loss of 2, which is best: near, 0.400.")


def test_a_stargan_is_shown_beside_what_unchanged_and_real_pictures_get():
    metrics = {**ends("eval/domain_accuracy", 0.33, 0.23, 0.41), "eval/domain_accuracy_real": 0.96}
    metrics |= {"eval/domain_accuracy_unchanged": 0.01}
    (run,) = group(row("gan", "train_stargan", {"eval.fingerprint": "a" * 64}, metrics=metrics))["runs"]
    assert run["value"]["marks"] == {"unchanged": 0.01, "real": 0.96}


def test_answers_to_larger_questions_come_before_files():
    suite = row("ranks", "suite", {"verdict": "better"}, metrics=ends("gain", 0.02, 0.01, 0.03), note="one\n\ntwo\n\nthree")
    sweep = row("search", "sweep", metrics={"best_weighted_total_loss": 0.4}, started=5)
    (found,) = overview([sweep, suite], EXPERIMENTS, "en")["experiments"]
    assert [(one["kind"], one["verdict"]) for one in found["answers"]] == [("suite", "better"), ("sweep", "")]
    assert found["answers"][0]["lines"] == ["one", "two", "three"]
    assert found["answers"][0]["value"] == {"metric": "gain", "mean": 0.02, "low": 0.01, "high": 0.03}
    assert found["answers"][1]["searched"] == {"weighted_total_loss": 0.4}


def test_trainings_of_a_suite_are_a_group_below_those_that_were_made_on_their_own():
    mine, part = lora("mine", 0.01, 0.0, 0.02, "not shown"), {"suite": "ranks"}
    theirs = lora("theirs", 0.05, 0.02, 0.08, "better", mark="b" * 64, tags=part, started=9)
    groups = overview([mine, theirs], EXPERIMENTS, "en")["experiments"][0]["groups"]
    assert [(names(one), one["part_of"]) for one in groups] == [(["mine"], []), (["theirs"], ["suite ranks"])]


def test_runs_without_a_measurement_are_told_apart_with_their_state_and_error():
    rows = [row("now", status="RUNNING", started=2), row("broken", tags={"error": "disk full"}, status="FAILED", started=1)]
    (found,) = overview(rows, EXPERIMENTS, "en")["experiments"]
    assert [(run["name"], run["status"], run.get("error")) for run in found["rest"]["runs"]] == [
        ("now", "RUNNING", None),
        ("broken", "FAILED", "disk full"),
    ]


def test_what_a_run_is_stands_apart_from_what_came_out():
    (run,) = group(lora("one", 0.05, 0.02, 0.08, "better", tags={"description": "LoRA"}, note="LoRA\n\nfirst\n\nsecond"))[
        "runs"
    ]
    assert (run["what"], run["lines"]) == ("LoRA", ["first", "second"])


def test_a_list_is_cut_where_asked_for_and_says_how_many_there_are():
    rows = [lora(f"run {number}", number / 100, number / 100, number / 100, "not shown") for number in range(30)]
    (found,) = overview(rows, EXPERIMENTS, "en", most=5)["experiments"]
    assert (found["groups"][0]["count"], names(found["groups"][0])) == (30, ["run 29", "run 28", "run 27", "run 26", "run 25"])
    assert "Largest gain of 30 files" in found["groups"][0]["said"]


def test_both_languages_have_the_same_words_with_the_same_places():
    places = {lang: {key: sorted(part.split("}")[0] for part in text.split("{")[1:]) for key, text in words.items()}
              for lang, words in WORDS.items()}  # fmt: skip
    assert places["en"] == places["zh-TW"]


def test_the_page_reads_few_of_an_evaluations_numbers():
    assert is_wanted(GAIN)
    assert is_wanted(f"{GAIN}_low")
    assert is_wanted("confirmed_gain")
    assert is_wanted("best_ssim")
    assert not any(is_wanted(name) for name in ("eval/kid", "total_loss", "eval/base_weighted_total_loss"))


def test_a_name_that_says_the_settings_is_not_followed_by_them_again():
    params = {"network.rank": "8", "training.seed": "1"}
    for name, said in (("dress r8", ["seed 1"]), ("mine", ["rank 8", "seed 1"])):
        one = lora(name, 0.05, 0.02, 0.08, "better", tags={"described_as": "dress r8"}, params=params)
        assert group(one)["runs"][0]["params"] == said
