"""A suite says of recipes what its seeds and references allow, and no more."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from fashion_ml.errors import InputError
from fashion_ml.evaluation.suite_verdicts import judge_recipes
from fashion_ml.evaluation.suites import SuiteComparison, compare_suite
from fashion_ml.metrics.crossed import crossed_difference
from fashion_ml.metrics.sequential import levels
from fashion_ml.metrics.sign_flip import holm
from tests.unit.evaluation.suite_tables import matrix, recipe

TOTAL = "weighted_total_loss"


def planted(**more: tuple[int, ...]) -> SuiteComparison:
    """A third of the steps is worse by 0.06, twice the steps as good."""
    recipes = {"whole": recipe("whole", 0.37), "third": recipe("third", 0.43), "twice": recipe("twice", 0.37)}
    return compare_suite(recipes, "whole", **more)


def test_a_planted_difference_is_found_with_its_interval_above_0():
    """Of the recipe with all steps over that with a third of them."""
    found = compare_suite({"third": recipe("third", 0.43), "whole": recipe("whole", 0.37)}, "third")
    entry = found.primary()["whole"].difference
    assert entry.verdict == "better"
    assert entry.gain.low is not None
    assert entry.gain.low > 0
    assert found.winners() == ["whole"]
    assert found.claim == "this recipe"


def test_p_values_are_those_of_the_crossed_differences_after_holm_over_the_recipes():
    found = planted()
    values = {name: np.array([one.table[TOTAL].to_numpy() for one in own]) for name, own in found.recipes.items()}
    raw = {
        name: one.p for name in ("third", "twice") if (one := crossed_difference(-values["whole"], -values[name])) is not None
    }
    assert {name: one.difference.p for name, one in found.primary().items()} == pytest.approx(holm(raw))
    assert found.primary()["third"].difference.verdict == "worse"
    assert found.primary()["twice"].difference.verdict == "not shown"


def test_only_the_primary_metric_has_words_and_p_and_all_have_intervals():
    own = planted().differences["third"]
    assert set(own) == {TOTAL, "ssim", "visual_loss"}
    assert [own[name].difference.verdict for name in ("ssim", "visual_loss")] == ["", ""]
    assert all(one.difference.gain.ends is not None for one in own.values())
    assert own["ssim"].difference.gain.mean < 0  # a lower similarity is worse


def test_a_mean_has_an_interval_over_seeds_and_references_and_the_mean_of_each_seed():
    score = planted().scores["whole"][TOTAL]
    assert list(score.by_seed) == ["0", "1", "2"]
    assert score.mean.mean == pytest.approx(np.mean(list(score.by_seed.values())))
    assert score.mean.ends is not None
    assert score.mean.n == 24


def test_fewer_than_three_seeds_have_means_and_no_verdict_and_it_is_said():
    found = compare_suite({"a": recipe("a", 0.37), "b": recipe("b", 0.43, (0, 1))}, "a")
    entry = found.primary()["b"].difference
    assert (entry.verdict, entry.gain.ends, entry.p) == ("", None, None)
    assert "from 3 on" in entry.why
    assert found.claim == "this file"
    assert found.scores["b"][TOTAL].mean.ends is None
    assert "Of recipes nothing can be said before each has 3 seeds (b: 2 so far)" in found.sentences()


def test_one_seed_of_each_is_shown_and_nothing_is_claimed():
    found = compare_suite({"a": recipe("a", 0.37, (0,)), "b": recipe("b", 0.43, (0,))}, "a")
    assert found.spread is None
    assert "What another training seed does is not known" in found.sentences()
    json.dumps(found.to_dict(), allow_nan=False)


def test_below_six_references_and_with_an_encoder_that_cannot_read_there_is_no_verdict():
    few = compare_suite({name: recipe(name, mean, references=5) for name, mean in (("a", 0.37), ("b", 0.43))}, "a")
    assert few.primary()["b"].difference.verdict == ""
    assert "5 references are fewer than 6" in few.sentences()
    unread = {"a": recipe("a", 0.37, unread="noise is nearer"), "b": recipe("b", 0.43, unread="noise is nearer")}
    found = compare_suite(unread, "a")
    assert found.primary()["b"].difference.verdict == ""
    assert "No verdict: the encoder cannot read these pictures: noise is nearer" in found.sentences()
    assert compare_suite(unread, "a", "visual_loss").primary()["b"].difference.verdict == "worse"  # by no encoder


def test_one_recipe_under_two_names_has_no_verdict():
    same = {"network.rank": "4"}
    found = compare_suite({"a": recipe("a", 0.37, settings=same), "b": recipe("b", 0.43, settings=same)}, "a")
    assert found.primary()["b"].difference.why == "both are one recipe"
    assert found.undecided == ()


def test_what_nobody_can_compare_is_refused_in_a_line():
    a, b = recipe("a", 0.37), recipe("b", 0.43)
    with pytest.raises(InputError, match="'a' has no training that was measured"):
        compare_suite({"a": [], "b": b}, "a")
    with pytest.raises(InputError, match="every recipe but the baseline"):
        compare_suite({"a": a, "b": []}, "a")
    with pytest.raises(InputError, match="both trained with seed 0"):
        compare_suite({"a": [a[0], replace(a[1], training_seed="0")], "b": b}, "a")
    with pytest.raises(InputError, match="measured differently"):
        compare_suite({"a": a, "b": [replace(one, facts={"fingerprint": "g"}) for one in b]}, "a")
    with pytest.raises(InputError, match="metric: 'lpips' was not measured"):
        compare_suite({"a": a, "b": b}, "a", "lpips")


def test_a_recipe_without_trainings_is_said_and_the_others_are_compared():
    found = compare_suite({"a": recipe("a", 0.37), "b": recipe("b", 0.43), "c": []}, "a")
    assert list(found.scores) == ["a", "b"]
    assert "c: no training was measured" in found.sentences()


def test_what_is_measured_and_not_compared_is_said():
    assert "Not compared: nearest_training_similarity" in planted().sentences()
    chosen = planted(compare=("ssim",))  # type: ignore[arg-type]
    assert chosen.metrics == [TOTAL, "ssim"]


def test_latent_guided_images_of_a_stargan_are_compared_too():
    def stargan(name: str, mean: float) -> list:
        return [
            replace(one, table=one.table.assign(latent_ssim=one.table["ssim"] + 0.1, target="x").drop(columns="seed"))
            for one in recipe(name, mean)
        ]

    found = compare_suite({"a": stargan("a", 0.37), "b": stargan("b", 0.43)}, "a", "latent_ssim")
    assert found.primary()["b"].difference.verdict == "worse"
    assert found.better == "higher"
    assert "ssim" in found.metrics


def test_seeds_to_settle_are_more_for_half_of_the_difference():
    one = compare_suite({"a": recipe("a", 0.37), "b": recipe("b", 0.361, draw=3)}, "a").primary()["b"]
    assert one.difference.verdict == "not shown"
    assert one.to_settle is not None
    assert one.to_settle > 3
    assert one.to_settle_half is None or one.to_settle_half > one.to_settle


@pytest.mark.parametrize(
    ("to_settle", "hidden", "says"),
    [
        (12, (False, False), "要證實所見大小的差異，需要：12 個種子（twice）"),
        (None, (True, True), "要證實所見大小的差異，需要：更多參考圖，而不是種子（twice）"),
        (None, (False, True), "要證實所見大小的差異，需要：超過 "),
    ],
)
def test_no_blank_is_left_between_chinese_words(to_settle: int | None, hidden: tuple[bool, bool], says: str):
    found = planted()
    one = found.differences["twice"][TOTAL]
    found.differences["twice"][TOTAL] = replace(one, to_settle=to_settle, hidden=hidden)
    third = found.sentences("zh-TW").splitlines()[2]
    assert says in third
    assert not re.search(r"[\u3000-\u9fff] [\u3000-\u9fff]", third)


def test_a_suite_that_adds_seeds_looks_by_bounds_and_says_who_is_undecided():
    found = planted(looks=(3, 4, 5, 6))
    third, twice = (found.primary()[name] for name in ("third", "twice"))
    assert (third.difference.verdict, third.decided_at) == ("worse", 3)
    assert (twice.difference.verdict, twice.decided_at) == ("not shown", None)
    assert found.undecided == ("twice",)
    assert "Looks at 3, 4, 5, 6 seeds, so far at 3; together they stay at 5 %" in found.sentences()
    assert "Another seed may decide twice" in found.sentences()
    plain = planted().primary()["twice"].difference.gain
    wider = twice.difference.gain
    assert wider.ends is not None
    assert plain.ends is not None
    assert wider.ends[1] - wider.ends[0] > plain.ends[1] - plain.ends[0]
    assert found.to_dict()["bounds"]["levels"] == pytest.approx(list(levels((3, 4, 5, 6))))


def test_what_was_decided_stays_decided_when_the_baseline_has_more_seeds():
    seeds = (0, 1, 2, 3, 4)
    recipes = {"whole": recipe("whole", 0.37, seeds), "third": recipe("third", 0.43), "twice": recipe("twice", 0.37, seeds)}
    found = compare_suite(recipes, "whole", looks=(3, 4, 5))
    assert (found.primary()["third"].difference.verdict, found.primary()["third"].seeds) == ("worse", (3, 3))
    assert found.primary()["twice"].seeds == (5, 5)
    assert found.undecided == ()  # there are no more seeds
    assert found.scores["whole"][TOTAL].by_seed.keys() == {"0", "1", "2", "3", "4"}


def test_later_seeds_do_not_take_back_what_a_look_has_decided():
    """The first three seeds show it; two more, which nobody asked for, are as good as the baseline's and far from the others."""
    late = recipe("third", 0.34, (3, 4), draw=1)
    recipes = {"whole": recipe("whole", 0.37, (0, 1, 2, 3, 4)), "third": [*recipe("third", 0.43), *late]}
    one = compare_suite(recipes, "whole", looks=(3, 4, 5)).primary()["third"]
    assert (one.difference.verdict, one.decided_at, one.seeds) == ("worse", 3, (3, 3))
    assert compare_suite(recipes, "whole").primary()["third"].difference.verdict == "not shown"


@pytest.mark.parametrize("looks", [(), (3, 4, 5)])
def test_equal_recipes_are_called_different_in_at_most_6_percent_of_suites_that_scatter_as_real_ones(looks: tuple[int, ...]):
    """250 suites of two recipes beside the baseline, with the variances of real trainings; 6 % of them are 15."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(250):
        hard = rng.normal(0, 0.05, 12)
        values = {name: matrix(0.37, looks[-1] if looks else 3, rng, hard) for name in ("a", "b", "c")}
        found = judge_recipes(values, "a", TOTAL, looks)
        wrong += any(one.difference.verdict in ("better", "worse") for one in found.values())
    assert wrong <= 15


def test_tables_hold_every_recipe_and_metric():
    found = planted()
    assert len(found.table) == 9
    assert len(found.difference_table) == 6
    row = found.difference_table.set_index(["recipe", "metric"]).loc[("third", TOTAL)]
    assert (row["verdict"], row["against"], row["seeds"]) == ("worse", "whole", 3)
    tree = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert tree["baseline"] == "whole"
    assert tree["winners"] == []
    assert tree["spread"]["shares"].keys() == {"seeds", "references", "recipes", "matches", "rest"}
