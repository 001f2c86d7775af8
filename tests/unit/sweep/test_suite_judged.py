"""Every look at a suite counts, whoever takes it, and growing a suite by hand calls no more equal recipes different."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest

from fashion_ml.config import SuiteSpec, checked
from fashion_ml.errors import InputError
from fashion_ml.evaluation.compare import Evaluated
from fashion_ml.evaluation.suite_plan import SuitePlan
from fashion_ml.evaluation.suite_verdicts import judge_recipes
from fashion_ml.runs import compare as runs_compare
from fashion_ml.sweep.study import ERROR
from fashion_ml.sweep.suite import SuiteRunner
from fashion_ml.sweep.suite_judged import (
    compare_so_far,
    judged_of,
    looks_of,
    note_first,
    note_older,
    plan_of,
    refuse_changed_plan,
    standing,
)
from fashion_ml.sweep.suite_looks import add_seeds
from fashion_ml.sweep.suite_study import SuiteTraining, slots_of, trainings_of
from fashion_ml.sweep.trial import EVALUATIONS
from tests.unit.evaluation.suite_tables import matrix, recipe

pytestmark = pytest.mark.slow

SPEC: dict[str, Any] = {"name": "s", "trainer": "lora", "experiment": "x.yaml", "recipes": {"a": {}, "b": {}}}


def suite_of(**changes: Any) -> SuiteSpec:
    return checked({**SPEC, **changes}, SuiteSpec)


class Store:
    """A study whose trainings end when they are told to, and their evaluations: b is worse than a by much."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.study, self.evaluations = optuna.create_study(), dict[str, Evaluated]()
        self.run: Any = SimpleNamespace(client=None)
        monkeypatch.setattr(runs_compare, "evaluated", lambda _, run_id: self.evaluations[run_id])

    def train(self, spec: SuiteSpec, seeds: tuple[int, ...], *, failing: tuple[str, int] | None = None) -> None:
        """Every recipe with these seeds."""
        for slot, one in slots_of(spec, seeds).items():
            name, seed = one.attributes["recipe"], one.attributes["seed"]
            self.study.enqueue_trial({}, user_attrs={"slot": slot, "recipe": name, "seed": seed})
            trial = self.study.ask()
            if (name, seed) == failing:
                trial.set_user_attr(ERROR, "it diverges")
                self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            (made,) = recipe(name, 0.37 if name == "a" else 0.47, (seed,), draw=seed)
            self.evaluations[made.run_id] = made
            trial.set_user_attr(EVALUATIONS, [made.run_id])
            self.study.tell(trial, 0.5)

    def verdict(self, spec: SuiteSpec) -> str:
        """Of b, by the command's own comparison."""
        return compare_so_far(spec, self.study, None).primary()["b"].difference.verdict


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    return Store(monkeypatch)


def test_seeds_that_are_added_by_hand_after_a_look_take_the_verdict_and_the_first_plan_gives_it_back(store: Store):
    three, four = suite_of(), suite_of(seeds=[0, 1, 2, 3])
    store.train(three, (0, 1, 2))
    assert store.verdict(three) == "worse"
    assert judged_of(store.study) == plan_of(three) == SuitePlan("a", (0, 1, 2))
    store.train(four, (3,))
    found = compare_so_far(four, store.study, None)
    assert found.primary()["b"].difference.verdict == ""
    assert "seeds were changed after a look (at 3 seeds, now 4)" in found.sentences()
    assert store.verdict(three) == "worse"
    assert store.verdict(suite_of(baseline="a", max_seeds=4)) == ""


def test_an_interim_report_shows_intervals_gives_no_verdict_and_is_a_look_all_the_same(store: Store):
    six = suite_of(seeds=[0, 1, 2, 3, 4, 5])
    store.train(six, (0, 1))
    assert not compare_so_far(six, store.study, None).looked
    assert judged_of(store.study) is None
    store.train(six, (2,))
    found = compare_so_far(six, store.study, None)
    assert (found.primary()["b"].difference.verdict, found.standing.left, found.standing.planned) == ("", 6, 12)
    assert found.primary()["b"].difference.gain.ends is not None
    assert store.verdict(suite_of()) == ""  # who has seen the intervals may not end it here
    store.train(six, (3, 4, 5))
    assert store.verdict(six) == "worse"


def test_a_look_for_more_seeds_is_a_look_and_the_most_may_change_before_it(store: Store):
    few, many = suite_of(max_seeds=4), suite_of(max_seeds=6)
    store.train(few, (0, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fashion_ml.sweep.suite_looks.undecided", lambda *_: [])
        add_seeds(few, store.study, store.run)
    store.train(many, (2,))
    assert not add_seeds(many, store.study, store.run)  # b is decided
    assert judged_of(store.study) == plan_of(many)
    assert store.verdict(many) == "worse"
    assert store.verdict(few) == store.verdict(suite_of()) == ""


class Measured(SuiteRunner):
    """In the place of trainings: their facts."""

    def train(self, trial: optuna.Trial, recipe: str, seed: int) -> dict[str, Any]:
        metrics = {"weighted_total_loss": {"mean": 0.5}}
        return {
            "training_seconds": 1.0,
            "trained_parameters": 8,
            "evaluation": {"run_id": f"{recipe}{seed}", "metrics": metrics},
        }


def test_the_plan_is_noted_before_the_first_value_can_be_seen_and_a_stop_before_any_report_changes_nothing(store: Store):
    """Six seeds are planned, three are trained and shown on the terminal, nothing was reported; then the file says three, or another base."""
    spec = suite_of(seeds=list(range(6)))
    seen = []
    trial = store.study.ask()
    for name, value in {"slot": 0, "recipe": "a", "seed": 0}.items():
        trial.set_user_attr(name, value)
    told = trial.set_user_attr

    def watched(name: str, value: Any) -> None:
        seen.append(judged_of(store.study) if name == EVALUATIONS else None)
        told(name, value)

    trial.set_user_attr = watched  # type: ignore[method-assign]
    assert Measured(spec, {}, Path(), {}, "")(trial) == 0.5
    assert seen == [plan_of(spec)]
    store.study.tell(trial, state=optuna.trial.TrialState.FAIL)
    store.train(suite_of(), (0, 1, 2))
    assert store.verdict(suite_of()) == ""
    assert compare_so_far(suite_of(baseline="b"), store.study, None).primary()["a"].difference.verdict == ""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"seeds": [0, 1, 2, 3]},
            "seeds: when the suite's first training was measured, the numbers of seeds .* planned as 3, and is 4 now",
        ),
        ({"max_seeds": 5}, "seeds: .* planned as 3, and is 3, 4, 5 now"),
        ({"baseline": "b"}, "baseline: .* the baseline had been planned as a, and is b now"),
    ],
)
def test_a_changed_plan_is_refused_before_anything_is_trained_for_nothing(store: Store, changes: dict[str, Any], told: str):
    refuse_changed_plan(store.study, suite_of(**changes))  # nothing has been measured
    note_first(store.study, suite_of())
    refuse_changed_plan(store.study, suite_of())
    with pytest.raises(InputError, match=told):
        refuse_changed_plan(store.study, suite_of(**changes))


def test_a_suite_that_an_earlier_version_measured_has_its_seeds_as_the_plan(store: Store):
    """It noted no plan; other seeds than it had are a change after its results could be seen."""
    store.train(suite_of(), (0, 1, 2))
    more = suite_of(seeds=[0, 1, 2, 3])
    note_older(store.study, more, (0, 1, 2))
    assert judged_of(store.study) != plan_of(more)
    store.train(more, (3,))
    assert store.verdict(more) == ""
    assert store.verdict(suite_of()) == "worse"


def test_another_baseline_after_a_look_has_no_verdict(store: Store):
    store.train(suite_of(), (0, 1, 2))
    assert store.verdict(suite_of()) == "worse"
    found = compare_so_far(suite_of(baseline="b"), store.study, None)
    assert found.primary()["a"].difference.verdict == ""
    assert "the baseline was a at the first look and is b now" in found.sentences()


def test_a_training_that_failed_has_ended_and_its_recipe_has_no_verdict_until_it_is_trained(store: Store):
    four = suite_of(seeds=[0, 1, 2, 3])
    store.train(four, (0, 1, 2, 3), failing=("b", 1))
    found = compare_so_far(four, store.study, None)
    assert found.standing.left == 0
    assert found.standing.failed == {"b": (1, 4)}
    assert found.primary()["b"].difference.verdict == ""
    store.train(four, (1,))  # again
    assert [one.state for one in trainings_of(store.study)] == ["complete"] * 8
    assert store.verdict(four) == "worse"


def test_why_no_seed_is_added_is_said(store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logging.getLogger("fashion_ml"), "propagate", True)
    spec = suite_of(max_seeds=4)
    store.train(spec, (0, 1, 2))
    broken = store.evaluations["b-1"]
    store.evaluations["b-1"] = Evaluated(broken.run_id, broken.run_id, {"fingerprint": "g"}, broken.table)
    with caplog.at_level("INFO", "fashion_ml"):
        assert not add_seeds(spec, store.study, store.run)
    assert "No seed is added to s, because its trainings cannot be compared: " in caplog.text


def grown(spec_of: Any, rng: np.random.Generator) -> bool:
    """Whether an equal recipe was called other at any of the looks of somebody who goes on until it is, by the suites' own decision."""
    hard, judged = rng.normal(0, 0.05, 24), None
    values = {name: matrix(0.37, 6, rng, hard) for name in ("a", "b")}
    for count in (3, 4, 5, 6):
        spec = spec_of(count)
        those = [SuiteTraining(name, seed, "complete", "", "", 0.4, 1.0, "") for seed in range(count) for name in ("a", "b")]
        now = standing(spec, those, judged)
        judged = judged or now.plan
        own = {name: one[:count] for name, one in values.items()}
        found = judge_recipes(own, "a", "weighted_total_loss", looks_of(spec), forbidden=now.why_none())
        if found["b"].difference.verdict in ("better", "worse"):
            return True
    return False


MOST = 41
"""Of 600 suites at 5 %, and two standard errors. Of 40,000 suites such as these 4.1 % are wrong at one look at 3 seeds, 4.7 % at those at
3, 4, 5 and 6 by their bounds, and 10.1 % at p < 0.05 each."""


def test_seeds_grown_by_hand_call_equal_recipes_different_no_more_often_than_one_look_does():
    """Of the demo's standard deviations."""
    rng = np.random.default_rng(3)
    assert sum(grown(lambda count: suite_of(seeds=list(range(count))), rng) for _ in range(600)) <= MOST


def test_seeds_that_the_plan_has_from_the_start_call_equal_recipes_different_in_at_most_6_percent():
    rng, spec = np.random.default_rng(4), suite_of(max_seeds=6)
    assert sum(grown(lambda _: spec, rng) for _ in range(600)) <= MOST


def test_the_numbers_of_seeds_at_which_a_suite_looks_are_those_of_its_file():
    assert (looks_of(suite_of()), looks_of(suite_of(max_seeds=5))) == ((), (3, 4, 5))
