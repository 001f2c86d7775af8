"""What a suite says of one recipe does not contradict itself, and what it can see is what it finds."""

from __future__ import annotations

import numpy as np
import pytest

from fashion_ml.evaluation.suite_verdicts import SuiteDifference, judge_recipes
from fashion_ml.metrics.sequential import levels
from tests.unit.evaluation.suite_tables import matrix

pytestmark = pytest.mark.slow

TOTAL = "weighted_total_loss"


def judged(
    rng: np.random.Generator, seeds: dict[str, int], gains: dict[str, float], looks: tuple[int, ...] = (), references: int = 24
) -> dict[str, SuiteDifference]:
    """Recipes of so many seeds, each so much better than the first, judged against it."""
    hard = rng.normal(0, 0.05, references)
    values = {name: matrix(0.37 - gains.get(name, 0.0), count, rng, hard) for name, count in seeds.items()}
    return judge_recipes(values, next(iter(seeds)), TOTAL, looks)


def test_verdict_p_and_interval_of_a_recipe_say_the_same_in_700_suites():
    rng, seen = np.random.default_rng(6), set()
    for number in range(700):
        looks = [(), (3, 4), (3, 4, 5, 6)][number % 3]
        most = looks[-1] if looks else 3
        seeds = {name: int(rng.integers(3, most + 1)) for name in "abcd"[: 2 + number % 3]}
        gains = {name: float(rng.choice([0.0, 0.012, 0.02, -0.02])) for name in "bcd"}
        for name, one in judged(rng, seeds, gains, looks, references=8).items():
            entry = one.difference
            assert entry.p is not None
            assert entry.gain.ends is not None
            low, high = entry.gain.ends
            shown = entry.verdict in ("better", "worse")
            assert shown == (entry.p < 0.05) == (low > 0 or high < 0) == (one.decided_at is not None)
            assert max(one.seeds) <= min(seeds["a"], seeds[name]) or not looks
            seen.add((entry.verdict, one.decided_at))
    assert {("better", 3), ("better", 4), ("worse", 3), ("not shown", None)} <= seen


def test_a_recipe_that_another_ones_later_p_decides_has_the_interval_of_its_own_look():
    """By itself the first is at 0.03 after three seeds, of two recipes too much; the fourth seed shows the other."""
    rng, hard = np.random.default_rng(0), np.zeros(24)
    base = matrix(0.37, 4, rng, hard)
    own = matrix(0.37, 4, rng, hard)
    for gain in np.linspace(0, 0.04, 400):
        a = own - gain
        a[3] = own[3] + 2 * gain  # the fourth seed speaks against it
        alone = judge_recipes({"base": base, "a": a}, "base", TOTAL, (3, 4))["a"]
        both = judge_recipes({"base": base, "a": a, "b": base + 0.0001}, "base", TOTAL, (3, 4))["a"]
        if alone.decided_at == 3 and both.difference.verdict == "not shown":
            break
    late = base - 0.001
    late[3] = base[3] - 0.2
    late[:3] = base[:3] - np.array([[0.2], [0.2], [0.2]])
    found = judge_recipes({"base": base, "a": a, "b": late}, "base", TOTAL, (3, 4))
    assert found["b"].difference.verdict == "better"
    assert (found["a"].difference.verdict, found["a"].decided_at, found["a"].seeds) == ("better", 3, (3, 3))
    assert found["a"].difference.gain.low is not None
    assert found["a"].difference.gain.low > 0


@pytest.mark.parametrize("others", [1, 2, 3, 5])
def test_what_a_suite_can_see_is_found_in_80_percent_of_suites_whatever_the_number_of_recipes(others: int):
    rng = np.random.default_rng(others)
    names = [f"r{number}" for number in range(others + 1)]
    seeds = dict.fromkeys(names, 3)
    sees = np.mean([one.crossed.sees for _ in range(30) for one in judged(rng, seeds, {}).values() if one.crossed])
    found = [judged(rng, seeds, {"r1": float(sees)})["r1"].difference.verdict == "better" for _ in range(250)]
    assert 0.75 <= np.mean(found) <= 0.88


@pytest.mark.parametrize("others", [1, 3])
def test_with_added_seeds_the_most_of_them_can_see_what_they_find(others: int):
    rng, looks = np.random.default_rng(others), (3, 4, 5, 6)
    names = [f"r{number}" for number in range(others + 1)]
    seeds = dict.fromkeys(names, 6)
    ends = [one for _ in range(30) for one in judged(rng, seeds, {}, looks).values() if not one.decided_at]
    sees = np.mean([one.crossed.sees for one in ends if one.crossed])
    assert {one.level for one in ends} == {levels(looks, 0.05 / others)[-1]}
    found = [judged(rng, seeds, {"r1": float(sees)}, looks)["r1"].difference.verdict == "better" for _ in range(300)]
    assert 0.75 <= np.mean(found) <= 0.88
