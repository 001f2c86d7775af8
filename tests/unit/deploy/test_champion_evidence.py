"""Only evaluations of the last step, of finished trainings, measured in one way, speak for a champion."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.deploy.test_champion import STEPS, Store


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> Store:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return Store(tmp_path)


def evaluation_of(store: Store, training: str) -> str:
    return str(store.client.get_run(training).data.tags["eval.run_id"])


def test_an_evaluation_of_an_earlier_checkpoint_makes_no_champion(store: Store):
    training = store.trained(0.4)
    store.client.set_tag(evaluation_of(store, training), "step", str(STEPS - 5))
    champion, claim, why = store.judged(training)
    assert (champion, claim) == (False, "")
    assert "is not one of these networks at the last step" in why


def test_a_champion_that_was_measured_on_its_training_images_says_so(store: Store):
    training = store.trained(0.4)
    for tag, said in (("true", True), ("false", False), ("unknown", False)):
        store.client.set_tag(evaluation_of(store, training), "references_seen_in_training", tag)
        champion, _, why = store.judged(training)
        assert champion
        assert ("The references were the training images." in why) == said


def test_trainings_that_failed_or_were_measured_otherwise_do_not_count_for_a_recipe(store: Store):
    """Three trainings of each recipe, of which the third of the champion's is not one to speak of."""
    store.crown(store.trained(0.4, seed=0))
    _, third = [store.trained(0.4, seed=seed) for seed in (1, 2)]
    new = [store.trained(0.3, seed=seed, rank=8) for seed in (10, 11, 12)]
    assert store.judged(new[0])[1] == "this recipe"
    store.client.set_terminated(third, "FAILED")
    told = [store.judged(new[0])]
    store.client.set_terminated(third, "FINISHED")
    store.client.set_tag(third, "eval.fingerprint", "another")
    told.append(store.judged(new[0]))
    for champion, claim, why in told:
        assert (champion, claim) == (True, "this file")
        assert "here are 2 of the champion's and 3 of this one" in why
