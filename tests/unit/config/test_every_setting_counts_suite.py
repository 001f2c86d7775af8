"""Every setting of a suite reaches the study, the trainings, the workers or the comparison; no training is made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fashion_ml.config import SuiteSpec, load_suite
from fashion_ml.sweep import suite
from fashion_ml.sweep.plan import storage_url, study_folder
from fashion_ml.sweep.study import open_planned
from fashion_ml.sweep.suite_study import plan_of_suite, slots_of, wrong_metrics
from tests.unit.config.leaves import leaves, repeated
from tests.unit.config.studies import heartbeat_of, seconds_given

PROJECT = Path(__file__).parents[3]
CHANGES_NOTHING: dict[str, str] = {}
"""Settings of a suite that change nothing that could be looked at, each with its "because …"; none does."""


class Suite:
    """A suite file with some changes, and what becomes of it."""

    def __init__(self, folder: Path, **changes: Any):
        tree: dict[str, Any] = {
            "name": "plain",
            "trainer": "lora",
            "experiment": str(PROJECT / "experiments" / "lora" / "embedded.yaml"),
            "grid": {"network.rank": [2, 4]},
            **changes,
        }
        self.path = folder / "suite.yaml"
        self.path.write_text(yaml.safe_dump({key: value for key, value in tree.items() if value is not None}), encoding="utf-8")
        self.spec, self.experiments = load_suite(self.path, {})
        self.plan = plan_of_suite(self.spec, self.experiments)


class Suites:
    """Suite files in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, **changes: Any) -> Suite:
        return Suite(self.folder, **changes)


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suites:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASHION_ML_STORAGE", raising=False)
    return Suites(tmp_path)


def other_trainer(suites: Suites) -> bool:
    experiment = str(PROJECT / "experiments" / "stargan" / "embedded.yaml")
    made = suites(trainer="stargan", experiment=experiment, grid={"loss.w_ds": [0.5, 2]})
    return {type(one).__name__ for one in made.experiments.values()} == {"StarganExperiment"}


def other_experiment(suites: Suites, **below: Any) -> list[str]:
    """The names of the recipes' experiments, one file being called `own`."""
    text = "name: own\ndata: {train_data_dir: embedded, resolution: 64}\nevaluation: {references: embedded}\n"
    (suites.folder / "own.yaml").write_text(text, encoding="utf-8")
    return [one.name for one in suites(**below).experiments.values()]


def of_one_recipe(suites: Suites) -> bool:
    (suites.folder / "plain.yaml").write_text(
        "name: plain\ndata: {train_data_dir: embedded, resolution: 64}\nevaluation: {references: embedded}\n", encoding="utf-8"
    )
    recipes = {"first": {"settings": {"rank": 2}}, "second": {"experiment": "own.yaml"}}
    return other_experiment(suites, experiment="plain.yaml", grid=None, recipes=recipes) == ["plain", "own"]


def deadline(suites: Suites, minutes: float) -> float:
    """How many seconds the workers of a suite are given."""
    made = suites(timeout_minutes=minutes)
    url = storage_url(made.spec, "")
    return seconds_given(lambda: suite.run_suite(made.spec, made.experiments, made.path, url, workers=1))


def heartbeat(suites: Suites) -> bool:
    made = suites(heartbeat_seconds=19)
    return heartbeat_of(open_planned(made.plan, f"sqlite:///{suites.folder / 'study.db'}", create=True)) == 19


def added(suites: Suites) -> bool:
    seeds = [suites(seeds=[0, 1, 5], max_seeds=most).spec.every_seed() for most in (None, 5)]
    return seeds == [(0, 1, 5), (0, 1, 5, 6, 7)]


def where_it_is_kept(suites: Suites) -> bool:
    given, plain = suites(storage="sqlite:///elsewhere.db").spec, suites().spec
    return storage_url(given, "") == "sqlite:///elsewhere.db" and storage_url(plain, "").endswith("/suites/plain/study.db")


SUITE: dict[str, tuple[Any, Callable[[Suites], Any]]] = {
    "name": ("other", lambda suites: study_folder(suites(name="other").spec).name == "other"),
    "trainer": ("stargan", other_trainer),
    "experiment": ("own.yaml", lambda suites: set(other_experiment(suites, experiment="own.yaml")) == {"own"}),
    "settings": (
        31,
        lambda suites: {one.training.max_train_steps for one in suites(settings={"steps": 31}).experiments.values()} == {31},
    ),
    "recipes.*.experiment": ("plain.yaml", of_one_recipe),
    "recipes.*.settings": (
        23,
        lambda suites: suites(recipes={"own": {"settings": {"rank": 23}}}).experiments["own"].network.rank == 23,
    ),
    "grid": (29, lambda suites: list(suites(grid={"network.rank": [2, 29]}).experiments) == ["rank 2", "rank 29"]),
    "baseline": (
        "rank 4",
        lambda suites: [suites(baseline=one).spec.against() for one in (None, "rank 4")] == ["rank 2", "rank 4"],
    ),
    "metric": (
        "ssim",
        lambda suites: [suites(metric=one).plan.directions for one in (None, "ssim")] == [["minimize"], ["maximize"]],
    ),
    "compare": ("beauty", lambda suites: len(wrong_metrics(suites(compare=["beauty"]).spec)) == 1),
    "seeds": (11, lambda suites: len(suites(seeds=[11, 13, 17, 19]).plan.slots) == 8),
    "max_seeds": (5, added),
    "storage": ("sqlite:///elsewhere.db", where_it_is_kept),
    "timeout_minutes": (1.5, lambda suites: deadline(suites, 1.5) == 90),
    "heartbeat_seconds": (19, heartbeat),
}


@pytest.mark.parametrize("leaf", leaves(SuiteSpec))
def test_every_setting_of_a_suite_does_what_it_says_or_says_why_not(leaf: str, suites: Suites):
    places = [leaf in table for table in (SUITE, CHANGES_NOTHING)]
    assert sum(places) == 1, f"{leaf}: say in the table where it shows, or in CHANGES_NOTHING why it does not"
    if leaf in SUITE:
        assert SUITE[leaf][1](suites)


def test_the_table_names_no_setting_that_is_gone_and_no_two_have_one_value():
    assert {*SUITE, *CHANGES_NOTHING} <= set(leaves(SuiteSpec))
    assert repeated({leaf: value for leaf, (value, _) in SUITE.items()}) == []


def test_seeds_that_are_added_keep_the_numbers_of_those_before(suites: Suites):
    short, long = suites().spec, suites(max_seeds=6).spec
    assert slots_of(short, short.seeds) == slots_of(long, short.seeds)
    assert list(slots_of(long, [3], ["rank 4"])) == [7]
