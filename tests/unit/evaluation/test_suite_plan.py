"""Looks that no bound counts give no verdict, and the three lines say why."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fashion_ml.evaluation.suite_plan import Standing, SuitePlan
from fashion_ml.evaluation.suites import SuiteComparison, compare_suite
from tests.unit.evaluation.suite_tables import recipe

THREE, FOUR = SuitePlan("a", (0, 1, 2)), SuitePlan("a", (0, 1, 2, 3))
MORE, FEWER = SuitePlan("a", tuple(range(6)), (3, 4, 5, 6)), SuitePlan("a", tuple(range(4)), (3, 4))


def compared(standing: Standing) -> SuiteComparison:
    """A difference that anyone would call worse."""
    looks = standing.plan.looks if standing.plan else ()
    sides = {"a": recipe("a", 0.37), "b": recipe("b", 0.47), "c": recipe("c", 0.47, draw=2)}
    return compare_suite(sides, "a", looks=looks, standing=standing)


def verdicts(found: SuiteComparison) -> list[str]:
    return [one.difference.verdict for one in found.primary().values()]


@pytest.mark.parametrize(
    ("plan", "judged", "says", "in_chinese"),
    [
        (
            FOUR,
            THREE,
            "No verdict: seeds were changed after a look (at 3 seeds, now 4); give max_seeds from the start",
            "更改了種子",
        ),
        (MORE, THREE, "seeds were changed after a look (at 3 seeds, now 3, 4, 5, 6)", "當時 3 個，現在 3、4、5、6 個"),
        (FEWER, MORE, "seeds were changed after a look (at 3, 4, 5, 6 seeds, now 3, 4)", "更改了種子"),
        (FOUR, MORE, "seeds were changed after a look (at 3, 4, 5, 6 seeds, now 4)", "更改了種子"),
        (
            THREE,
            SuitePlan("c", (0, 1, 2)),
            "No verdict: the baseline was c at the first look and is a now",
            "第一次檢視時的基準是 c",
        ),
    ],
)
def test_a_plan_that_was_changed_after_a_look_gives_no_verdict_and_the_line_says_why(
    plan: SuitePlan, judged: SuitePlan, says: str, in_chinese: str
):
    found = compared(Standing(plan, judged))
    assert verdicts(found) == ["", ""]
    assert all(one.difference.p is None and one.difference.gain.ends for one in found.primary().values())
    assert "was changed after a look" in found.primary()["b"].difference.why or "were" in found.primary()["b"].difference.why
    assert found.undecided == ()
    first, _, third = found.sentences().splitlines()
    assert "no verdict on b" in first
    assert says in third
    assert in_chinese in found.sentences("zh-TW").splitlines()[2]
    tree = found.to_dict()
    assert (tree["winners"], tree["judged"]) == ([], json.loads(json.dumps(judged.to_dict())) | tree["judged"])


@pytest.mark.parametrize("judged", [None, THREE])
def test_the_plan_of_the_first_look_has_its_verdicts(judged: SuitePlan | None):
    assert verdicts(compared(Standing(THREE, judged, planned=9))) == ["worse", "worse"]
    assert verdicts(compared(Standing(MORE, judged and MORE, planned=9, left=2))) == [
        "worse",
        "worse",
    ]  # each look has its bound


def test_before_all_trainings_have_ended_there_are_intervals_and_no_verdict():
    found = compared(Standing(SuitePlan("a", tuple(range(6))), None, planned=18, left=9))
    assert verdicts(found) == ["", ""]
    assert found.looked
    assert "9 of 18 trainings have ended: no verdict before all have" in found.sentences()
    assert "18 次訓練中已有 9 次結束" in found.sentences("zh-TW")
    assert found.to_dict()["left"] == 9


@pytest.mark.parametrize(("failed", "left"), [({"b": (1, 4)}, ["c"]), ({"a": (1, 4)}, [])])
def test_a_recipe_is_not_judged_by_the_trainings_that_did_not_fail(failed: dict[str, Any], left: list[str]):
    found = compared(Standing(MORE, None, failed=failed))
    assert [name for name, one in found.primary().items() if one.difference.verdict] == left
    (name,) = failed
    assert f"1 of 4 trainings of {name} failed: its mean is of those that did not" in found.sentences()
    assert f"{name} 的 4 次訓練中有 1 次失敗" in found.sentences("zh-TW")
    assert found.to_dict()["failed"] == {name: 1}
    assert not set(found.undecided) & {"b"}
