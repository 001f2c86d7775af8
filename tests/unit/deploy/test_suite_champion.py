"""With a suite only a recipe that wins in it is champion, and the rest is refused with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fashion_ml.config import load_config
from fashion_ml.deploy.champion import Judgement, judge_champion
from fashion_ml.deploy.register import CHAMPION
from fashion_ml.deploy.searched import searched_before
from fashion_ml.deploy.suite_champion import against_champions_recipe, suite_entry
from fashion_ml.errors import InputError
from fashion_ml.evaluation.suites import compare_suite
from fashion_ml.runs.compare import evaluated
from tests.unit.deploy.test_champion import STEPS, Store

pytestmark = pytest.mark.usefixtures("blank_figures")

Trainings = dict[str, list[str]]


def suite_of(
    store: Store,
    means: dict[str, tuple[int, float]],
    baseline: str,
    *,
    status: str = "FINISHED",
    not_measured: tuple[str, ...] = (),
    more: dict[str, object] | None = None,
) -> tuple[str, Trainings]:
    """A suite of recipes, by name their rank and weighted_total_loss, with three seeds each, and its report."""
    top = store.client.create_run(store.experiment, tags={"kind": "suite", "suite": "s"}, run_name="s").info.run_id
    trainings: Trainings = {}
    for name, (rank, mean) in means.items():
        tags = {"kind": "recipe", "recipe_name": name, "mlflow.parentRunId": top}
        above = store.client.create_run(store.experiment, tags=tags).info.run_id
        trainings[name] = [store.trained(mean, seed=seed, rank=rank) for seed in (0, 1, 2)]
        for one in trainings[name]:
            store.client.set_tag(one, "mlflow.parentRunId", above)
    sides = {name: [evaluated(store.client, one) for one in runs] for name, runs in trainings.items()}
    found = {**compare_suite(sides, baseline).to_dict(), "not_measured": not_measured, **(more or {})}
    store.client.log_text(top, json.dumps(found), "report/suite.json")
    store.client.set_terminated(top, status)
    return top, trainings


def judged(store: Store, run_id: str, suite: str) -> Judgement:
    entry = suite_entry(store.client, store.client.get_run(run_id), suite)
    return judge_champion(store.client, "look", CHAMPION, run_id, STEPS, entry)


@pytest.fixture
def store(workdir: Path) -> Store:
    """Trainings and evaluations in the working folder's store."""
    return Store(workdir)


def test_a_recipe_that_wins_in_the_suite_is_champion_as_a_recipe(store: Store):
    suite, trainings = suite_of(store, {"low": (4, 0.4), "high": (8, 0.3)}, "low")
    found = judged(store, trainings["high"][0], suite)
    assert (found.champion, found.claim) == (True, "this recipe")
    assert "In the suite high is better than low: gain +0." in found.why
    assert "This LoRA: weighted_total_loss" in found.why


def test_a_recipe_that_does_not_win_is_none_though_its_file_beats_the_base(store: Store):
    suite, trainings = suite_of(store, {"low": (4, 0.4), "same": (8, 0.4)}, "low")
    found = judged(store, trainings["same"][0], suite)
    assert (found.champion, found.claim) == (False, "")
    assert "its recipe 'same' against the suite's 'low'" in found.why
    assert found.why.endswith("not shown.")
    assert store.judged(trainings["same"][0])[0]  # without the suite this file would be one


def test_the_baseline_wins_only_where_every_other_recipe_is_worse(store: Store):
    suite, trainings = suite_of(store, {"low": (4, 0.3), "high": (8, 0.4), "same": (16, 0.3)}, "low")
    found = judged(store, trainings["low"][0], suite)
    assert not found.champion
    assert "than which same is not shown to be worse" in found.why
    alone, runs = suite_of(store, {"low": (4, 0.3), "high": (32, 0.4)}, "low")
    assert judged(store, runs["low"][0], alone).champion
    failed, runs = suite_of(store, {"low": (4, 0.3), "high": (64, 0.4)}, "low", not_measured=("lost",))
    found = judged(store, runs["low"][0], failed)
    assert not found.champion
    assert "than which lost is not shown to be worse" in found.why


def test_what_beats_the_baseline_must_beat_the_champions_recipe_where_the_suite_has_it(store: Store):
    suite, trainings = suite_of(store, {"low": (4, 0.45), "good": (8, 0.35), "best": (16, 0.25), "as good": (32, 0.35)}, "low")
    store.crown(trainings["good"][1])
    assert judged(store, trainings["best"][0], suite).claim == "this recipe"
    stays = judged(store, trainings["as good"][0], suite)
    assert not stays.champion
    assert stays.why.startswith("The champion stays: as good against the champion's recipe, good: gain ")
    same = judged(store, trainings["good"][0], suite)
    assert "it is of the same recipe, good" in same.why


def test_the_baseline_is_named_where_others_are_better_than_it_too(store: Store):
    suite, trainings = suite_of(store, {"low": (4, 0.45), "good": (8, 0.35), "best": (16, 0.25), "fine": (32, 0.3)}, "low")
    assert judged(store, trainings["good"][0], suite).why.count("Better than low are best, fine too.") == 1


def test_a_champion_outside_the_suite_is_beaten_as_a_recipe_or_not_at_all(store: Store):
    """One of many files of a suite that beats one file by its references alone is none."""
    store.crown(store.trained(0.4, rank=64))
    suite, trainings = suite_of(store, {"low": (4, 0.45), "high": (8, 0.3)}, "low")
    assert store.judged(trainings["high"][0])[:2] == (True, "this file")
    stays = judged(store, trainings["high"][0], suite)
    assert (stays.champion, stays.claim) == (False, "")
    assert "its recipe is not in the suite; put it into a suite as the baseline" in stays.why
    assert "here are 1 of the champion's and 3 of this one" in stays.why
    for seed in (1, 2):
        store.trained(0.4, rank=64, seed=seed)
    found = judged(store, trainings["high"][0], suite)
    assert (found.champion, found.claim) == (True, "this recipe")
    store.crown(store.trained(0.2, rank=128))
    for seed in (1, 2):
        store.trained(0.2, rank=128, seed=seed)
    stays = judged(store, trainings["high"][0], suite)
    assert not stays.champion
    assert stays.why.startswith("The champion stays: this recipe has weighted_total_loss 0.3")


def test_one_of_many_recipes_needs_more_against_a_champion_outside_the_suite(store: Store, monkeypatch: pytest.MonkeyPatch):
    store.crown(store.trained(0.4, rank=64))
    for seed in (1, 2):
        store.trained(0.4, rank=64, seed=seed)
    suite, trainings = suite_of(store, {"low": (4, 0.45), "high": (8, 0.3)}, "low")
    monkeypatch.setattr("fashion_ml.deploy.champion.LEVEL", 1e-12)
    stays = judged(store, trainings["high"][0], suite)
    assert not stays.champion
    assert "That is no verdict on one of 2 recipes (p 0.0" in stays.why


def test_all_recipes_of_a_suite_are_counted_against_the_champions(store: Store):
    """The one that is asked about was chosen among them: Holm's correction is over all of them, not over one."""
    suite, trainings = suite_of(store, {"low": (4, 0.45), "good": (8, 0.35), "best": (16, 0.3), "same": (32, 0.35)}, "low")
    store.crown(trainings["good"][1])
    entry = suite_entry(store.client, store.client.get_run(trainings["best"][0]), suite)
    found = against_champions_recipe(store.client, entry, trainings["good"][1])
    assert found is not None
    assert set(found.primary()) == {"low", "best", "same"}
    alone = compare_suite(
        {name: [evaluated(store.client, one) for one in trainings[name]] for name in ("good", "best")}, "good"
    )
    one, other = (each.primary()["best"].difference.p for each in (found, alone))
    assert one is not None
    assert other is not None
    assert one >= 1.9 * other


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"left": 2}, "2 trainings of the suite are left; end them by fashion-ml suite"),
        ({"failed": {"high": 1}}, "1 training of its recipe 'high' failed, and those that did not are no fair draw of it"),
        ({"failed": {"low": 1}, "left": 0}, ""),
    ],
)
def test_an_unfinished_suite_and_survivors_make_no_champion(store: Store, more: dict[str, object], why: str):
    suite, trainings = suite_of(store, {"low": (4, 0.4), "high": (8, 0.3)}, "low", more=more)
    found = judged(store, trainings["high"][0], suite)
    assert found.champion is not bool(why)
    assert why in found.why


def searched(store: Store, rank: int, mean: float = 0.35) -> None:
    """A trial of a sweep over ranks by the references that every training here has."""
    store.client.set_tag(store.trained(mean, sweep="wide", rank=rank), "searched.rank", str(rank))


def test_a_recipe_that_a_search_has_tried_by_these_references_is_no_champion_and_another_is(store: Store):
    suite, trainings = suite_of(store, {"low": (4, 0.4), "high": (8, 0.3), "best": (16, 0.25)}, "low")
    searched(store, 8)
    searched(store, 2)
    found = judged(store, trainings["high"][0], suite)
    assert not found.champion
    assert "The sweep wide has tried this recipe by these references" in found.why
    assert judged(store, trainings["best"][0], suite).claim == "this recipe"


def test_what_a_search_has_tried_is_said_before_the_suite_trains(store: Store):
    given = {"model.base": "embedded", "data.train_data_dir": "embedded"}
    ranks = {f"rank {rank}": load_config({**given, "network.rank": rank}) for rank in (4, 8)}
    assert searched_before(store.client, "lora", ranks) == ""
    searched(store, 8)
    line = searched_before(store.client, "lora", ranks)
    assert line.startswith(
        "The sweep wide has tried rank 8 by the references of this suite, so register --suite will make no champion of what it tried"
    )
    assert "evaluation.references" in line
    assert searched_before(store.client, "stargan", ranks) == ""
    other = load_config({**given, "network.rank": 8, "evaluation.references": "photos"})
    assert searched_before(store.client, "lora", {"rank 8": other}) == ""


def test_what_is_no_training_of_the_suite_is_refused_before_anything_is_registered(store: Store):
    suite, trainings = suite_of(store, {"low": (4, 0.4), "high": (8, 0.3)}, "low")
    other = store.client.get_run(store.trained(0.3, rank=3))
    with pytest.raises(InputError, match="is no training of the suite s"):
        suite_entry(store.client, other, suite)
    with pytest.raises(InputError, match="is no finished suite"):
        suite_entry(store.client, other, trainings["low"][0])
    running, runs = suite_of(store, {"low": (5, 0.4), "high": (9, 0.3)}, "low", status="RUNNING")
    with pytest.raises(InputError, match="is no finished suite"):
        suite_entry(store.client, store.client.get_run(runs["high"][0]), running)
    shutil.rmtree(Path(store.client.get_run(suite).info.artifact_uri.removeprefix("file://")) / "report")
    with pytest.raises(InputError, match="has no report yet"):
        suite_entry(store.client, store.client.get_run(trainings["high"][0]), suite)


def test_a_recipe_in_auto_was_tried_where_a_search_trained_in_what_that_is_here(store: Store):
    """There is no GPU: float32."""
    store.client.set_tag(store.trained(0.35, sweep="wide"), "searched.training.mixed_precision", "no")
    given = {"model.base": "embedded", "data.train_data_dir": "embedded"}
    asked = {name: load_config({**given, "training.mixed_precision": name}) for name in ("auto", "bf16")}
    assert searched_before(store.client, "lora", asked).startswith("The sweep wide has tried auto by the references")
