"""Who becomes champion, and as what, in a store of MLflow's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from fashion_ml.config import LoraExperiment, flat, load_config
from fashion_ml.config.recipe import RECIPE, recipe_id, recipe_of
from fashion_ml.deploy.champion import judge_champion
from fashion_ml.deploy.register import CHAMPION

STEPS = 10


class Store:
    """Trainings and their evaluations as they are logged, without the images."""

    def __init__(self, folder: Path):
        self.client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        self.experiment = self.client.create_experiment("e", artifact_location=(folder / "artifacts").as_uri())
        self.folder = folder
        self.client.create_registered_model("look")

    def trained(self, mean: float, *, seed: int = 0, rank: int = 4, sha: str = "s", count: int = 10, sweep: str = "") -> str:
        """A training whose LoRA has this weighted_total_loss where the base has 0.5."""
        given = {"model.base": "embedded", "data.train_data_dir": "embedded", "network.rank": rank, "training.seed": seed}
        settings = flat(load_config({**given, "training.max_train_steps": STEPS}))
        recipe = recipe_id(recipe_of(LoraExperiment, settings, "data"))
        tags = {"kind": "train_lora", "data_digest": "data", RECIPE: recipe, "eval.fingerprint": f"f{sha}"}
        tags |= {"trial": "0", "sweep": sweep} if sweep else {}
        training = self.client.create_run(self.experiment, tags=tags).info.run_id
        for name, value in settings.items():
            self.client.log_param(training, name, value)
        self.client.set_tag(training, "eval.run_id", self._evaluated(training, mean, seed, sha, count))
        self.client.set_terminated(training, "FINISHED")
        return training

    def _evaluated(self, training: str, mean: float, seed: int, sha: str, count: int) -> str:
        tags = {"kind": "evaluation", "algorithm": "lora", "step": str(STEPS), "mlflow.parentRunId": training}
        run_id = self.client.create_run(self.experiment, tags=tags).info.run_id
        facts = {"fingerprint": f"f{sha}", "references_sha256": sha, "seed": 5}
        self.client.log_param(run_id, "eval_settings.references_sha256", sha)
        self.client.log_param(run_id, "eval_settings.seed", 5)
        draw = np.random.default_rng([seed, int(1e4 * mean)])
        losses = mean + draw.normal(0, 0.01, count)
        table = pd.DataFrame({"reference": [f"r{i}" for i in range(count)], "seed": "1", "weighted_total_loss": losses})
        table["base_weighted_total_loss"] = 0.5 + draw.normal(0, 0.01, count)
        place = self.folder / run_id
        place.mkdir()
        table.to_csv(place / "per_image.csv", index=False)
        (place / "fingerprint.json").write_text(json.dumps(facts))
        self.client.log_artifacts(run_id, str(place))
        return run_id

    def crown(self, run_id: str) -> None:
        version = self.client.create_model_version("look", f"runs:/{run_id}/model", run_id).version
        self.client.set_registered_model_alias("look", CHAMPION, version)

    def judged(self, run_id: str) -> tuple[bool, str, str]:
        found = judge_champion(self.client, "look", CHAMPION, run_id, STEPS)
        return found.champion, found.claim, found.why


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_the_first_champion_beats_the_base_or_there_is_none(store: Store):
    assert store.judged(store.trained(0.4))[:2] == (True, "this LoRA")
    for mean, label in ((0.6, "worse"), (0.5, "not shown")):
        champion, claim, why = store.judged(store.trained(mean))
        assert (champion, claim) == (False, "")
        assert f": {label}" in why
        assert "the base has " in why
    champion, _, why = store.judged(store.trained(0.2, count=5))
    assert not champion
    assert "no verdict, 5 references are fewer than 6" in why


def test_two_trainings_of_one_recipe_are_never_more_than_files(store: Store):
    store.crown(store.trained(0.4, seed=0))
    for seed in (1, 2):
        store.trained(0.4, seed=seed)
    champion, claim, why = store.judged(store.trained(0.35, seed=3))
    assert (champion, claim) == (True, "this file")
    assert "This is said of this file alone. Both are of one recipe." in why
    assert "this recipe has" not in why.lower()


def test_a_second_seed_that_is_no_better_or_loses_to_the_base_is_no_champion(store: Store):
    store.crown(store.trained(0.4, seed=0))
    assert store.judged(store.trained(0.4, seed=1))[0] is False
    assert store.judged(store.trained(0.55, seed=2))[2].startswith("No champion: ")


def test_a_recipe_takes_three_training_seeds_of_each(store: Store):
    store.crown(store.trained(0.4, seed=0))
    better = [store.trained(0.3, seed=seed, rank=8) for seed in (10, 11)]
    champion, claim, why = store.judged(better[0])
    assert (champion, claim) == (True, "this file")
    assert "here are 1 of the champion's and 2 of this one" in why
    for seed in (1, 2):
        store.trained(0.4, seed=seed)
    store.trained(0.3, seed=12, rank=8)
    champion, claim, why = store.judged(better[0])
    assert (champion, claim) == (True, "this recipe")
    assert why.startswith("This recipe has weighted_total_loss 0.")
    assert why.count(": better") == 2  # than the champion, and than its own base


def test_what_a_search_has_seen_says_nothing_of_recipes(store: Store):
    store.crown(store.trained(0.4, seed=0))
    for seed in (1, 2):
        store.trained(0.4, seed=seed)
    new = [store.trained(0.3, seed=seed, rank=8) for seed in (10, 11, 12)]
    assert store.judged(new[0])[1] == "this recipe"
    store.trained(0.3, seed=20, rank=8, sweep="ranks")
    champion, claim, why = store.judged(new[0])
    assert (champion, claim) == (True, "this file")
    assert "The sweep ranks has searched by these references" in why
