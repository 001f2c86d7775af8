"""Who becomes champion, and as what, in a store of MLflow's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Param

from fashion_ml.config import LoraExperiment, flat, load_config
from fashion_ml.config.recipe import RECIPE, recipe_id, recipe_of
from fashion_ml.deploy.champion import judge_champion
from fashion_ml.deploy.register import CHAMPION
from fashion_ml.deploy.searched import shared

STEPS = 10
TOTAL = "weighted_total_loss"


class Store:
    """Trainings and their evaluations as they are logged, without the images."""

    def __init__(self, folder: Path):
        self.client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        self.experiment = self.client.create_experiment("e", artifact_location=(folder / "artifacts").as_uri())
        self.folder = folder
        self.client.create_registered_model("look")

    def trained(
        self,
        mean: float,
        *,
        seed: int = 0,
        rank: int = 4,
        sha: str = "s",
        count: int = 10,
        sweep: str = "",
        facts: dict[str, object] | None = None,
    ) -> str:
        """A training whose LoRA has this weighted_total_loss where the base has 0.5."""
        given = {"model.base": "embedded", "data.train_data_dir": "embedded", "network.rank": rank, "training.seed": seed}
        settings = flat(load_config({**given, "training.max_train_steps": STEPS}))
        recipe = recipe_id(LoraExperiment, recipe_of(LoraExperiment, settings, "data"))
        tags = {"kind": "train_lora", "data_digest": "data", RECIPE: recipe, "eval.fingerprint": f"f{sha}"}
        tags |= {"trial": "0", "sweep": sweep} if sweep else {}
        training = self.client.create_run(self.experiment, tags=tags).info.run_id
        params = [Param(name, str(value)) for name, value in settings.items()]
        for first in range(0, len(params), 100):  # as many as MLflow takes at once
            self.client.log_batch(training, params=params[first : first + 100])
        self.client.set_tag(training, "eval.run_id", self._evaluated(training, mean, seed, sha, count, facts or {}))
        self.client.set_terminated(training, "FINISHED")
        return training

    def _evaluated(
        self,
        training: str,
        mean: float,
        seed: int,
        sha: str,
        count: int,
        more: dict[str, object],
        total: str = TOTAL,
        unread: str = "",
    ) -> str:
        tags = {"kind": "evaluation", "algorithm": "lora", "step": str(STEPS), "mlflow.parentRunId": training}
        run_id = self.client.create_run(self.experiment, tags=tags).info.run_id
        facts = {"fingerprint": f"f{sha}", "references_sha256": sha, "seed": 5, **more}
        draw = np.random.default_rng([seed, int(1e4 * mean)])
        losses = mean + draw.normal(0, 0.01, count)
        table = pd.DataFrame({"reference": [f"r{i}" for i in range(count)], "seed": "1", total: losses})
        table[f"base_{total}"] = 0.5 + draw.normal(0, 0.01, count)
        place = self.folder / run_id
        place.mkdir()
        table.to_csv(place / "per_image.csv", index=False)
        (place / "fingerprint.json").write_text(json.dumps(facts))
        check = {"readable": not unread, "line": unread}
        (place / "evaluation_report.json").write_text(json.dumps({"ruler": {"encoder_check": check}}))
        self.client.log_artifacts(run_id, str(place))
        return run_id

    def chosen_by(self, facts: dict[str, object]) -> None:
        """A run of `evaluate choose`, as it notes what it searched by."""
        run_id = self.client.create_run(self.experiment, tags={"kind": "choice", "eval_fingerprint": "c"}).info.run_id
        self.client.log_text(run_id, json.dumps(facts), "fingerprint.json")

    def without_encoder(self, training: str) -> str:
        """The training with an evaluation of the pictures alone."""
        evaluation = self._evaluated(training, 0.2, 0, "s", 10, {}, "visual_loss")
        self.client.set_tag(training, "eval.run_id", evaluation)
        return training

    def crown(self, run_id: str) -> None:
        version = self.client.create_model_version("look", f"runs:/{run_id}/model", run_id).version
        self.client.set_registered_model_alias("look", CHAMPION, version)

    def judged(self, run_id: str) -> tuple[bool, str, str]:
        found = judge_champion(self.client, "look", CHAMPION, run_id, STEPS)
        return found.champion, found.claim, found.why


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> Store:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
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


def test_what_an_encoder_that_cannot_read_the_pictures_says_makes_no_champion(store: Store):
    training = store.trained(0.2)
    assert store.judged(training)[0] is True
    why = "the encoder cannot read these pictures: noise is nearer"
    store.client.set_tag(training, "eval.run_id", store._evaluated(training, 0.2, 0, "s", 10, {}, unread=why))
    champion, claim, said = store.judged(training)
    assert (champion, claim) == (False, "")
    assert f"no verdict, {why}" in said


def test_a_lora_that_was_measured_without_an_encoder_is_not_said_to_have_no_base(store: Store):
    champion, claim, why = store.judged(store.without_encoder(store.trained(0.2)))
    assert (champion, claim) == (False, "")
    assert why.startswith("No champion: without weighted_total_loss nothing says whether it is better than its base")


def test_references_that_were_trained_on_are_said_whether_all_or_some(store: Store):
    for tag, said in (("true", "were the training images"), ("some", "Some of the references were trained on"), ("false", "")):
        training = store.trained(0.4)
        evaluation = store.client.get_run(training).data.tags["eval.run_id"]
        store.client.set_tag(evaluation, "references_seen_in_training", tag)
        assert said in store.judged(training)[2]


@pytest.mark.parametrize(
    ("searched", "seed", "why"),
    [
        (["a1", "b2"], 7, "has searched by 1 of these 3 references"),
        (["a1", "c3", "d4"], 7, "has searched by these references"),
        ([], 5, "has searched by these image seeds"),
        (["x0"], 5, ""),
        (["x0"], 7, ""),
    ],
)
def test_a_part_of_the_references_that_a_sweep_or_a_choice_has_seen_is_not_fresh(
    store: Store, searched: list[str], seed: int, why: str
):
    store.crown(store.trained(0.4, seed=0, facts={"reference_files": ["a1", "c3", "d4"]}))
    for number in (1, 2):
        store.trained(0.4, seed=number)
    new = [store.trained(0.3, seed=one, rank=8, facts={"reference_files": ["a1", "c3", "d4"]}) for one in (10, 11, 12)]
    assert store.judged(new[0])[1] == "this recipe"
    store.chosen_by({"references_sha256": "half", "reference_files": searched, "seed": seed})
    _, claim, said = store.judged(new[0])
    assert claim == ("this file" if why else "this recipe")
    assert ("evaluate choose (run " in said) is bool(why)
    assert why in said
    if why:
        return
    store.trained(0.3, seed=20, rank=8, sha="other", sweep="ranks", facts={"reference_files": ["d4"], "seed": 7})
    assert "The sweep ranks has searched by 1 of these 3 references" in store.judged(new[0])[2]


def test_a_sweep_over_loras_says_nothing_of_a_stargans_contents_and_its_image_seeds_are_its_styles():
    facts = {"latents_sha256": "l", "held_out": ["a.npy"], "seed": 5}
    for searched, known in (
        ({"references_sha256": "s", "seed": 5}, False),
        ({"latents_sha256": "m", "held_out": ["a.npy"], "seed": 6}, False),
        ({"latents_sha256": "l", "held_out": ["a.npy", "b.npy"], "seed": 6}, True),
        ({"latents_sha256": "m", "held_out": ["a.npy"], "seed": 5}, True),  # styles are drawn by the seed alone
    ):
        assert bool(shared(facts, searched)) is known
