"""A recipe is what decides the outcome but for the seed."""

from __future__ import annotations

import pytest

from fashion_ml.config import LoraExperiment, StarganExperiment, flat, load_config, load_experiment
from fashion_ml.config.recipe import recipe_id, recipe_of
from fashion_ml.config.shipped_files import default_experiment


def recipe(**changes: object) -> dict[str, str]:
    given = {key.replace("__", "."): value for key, value in changes.items()}
    config = load_config({"model.base": "embedded", "data.train_data_dir": "embedded", **given})
    return recipe_of(LoraExperiment, flat(config), "digest")


@pytest.mark.parametrize(
    "changes",
    [
        {"training__seed": 7},
        {"output__output_name": "other"},
        {"output__output_dir": "elsewhere"},
        {"evaluation__seed": 3},
        {"evaluation__references": "embedded"},
        {"tracking__experiment": "other"},
        {"name": "other"},
        {"training__log_every": 3},
        {"training__save_state_minutes": 1.0},
        {"data__train_data_dir": "the/same/data/elsewhere"},
    ],
)
def test_seed_places_names_and_measuring_are_no_part_of_it(changes: dict[str, object]):
    assert recipe(**changes) == recipe()


@pytest.mark.parametrize(
    "changes",
    [
        {"network__rank": 8},
        {"optimizer__learning_rate": 1e-3},
        {"training__max_train_steps": 7},
        {"data__flip_aug": True},
        {"loss__min_snr_gamma": 5.0},
        {"training__tf32": True},
        {"model__clip_skip": 2},
    ],
)
def test_what_is_learnt_and_for_how_long_is_part_of_it(changes: dict[str, object]):
    assert recipe_id(LoraExperiment, recipe(**changes)) != recipe_id(LoraExperiment, recipe())


def test_a_recipe_of_before_there_was_tf32_is_that_of_today_without_it():
    given = {name: value for name, value in recipe().items() if name != "training.tf32"}
    assert recipe_id(LoraExperiment, given) == recipe_id(LoraExperiment, recipe(training__tf32=False))


def test_other_data_are_another_recipe_and_a_stargan_has_one_too():
    config = load_experiment(default_experiment("experiments/stargan/embedded.yaml"), {}, StarganExperiment)
    first, other = (recipe_of(StarganExperiment, flat(config), digest) for digest in ("a", "b"))
    assert recipe_id(StarganExperiment, first) != recipe_id(StarganExperiment, other)
    assert "training.epochs" in first
    assert "training.seed" not in first
    assert len(recipe_id(StarganExperiment, first)) == 12


def test_a_run_of_an_earlier_version_that_had_fewer_settings_is_of_the_same_recipe():
    """What it lacks has its default; a value that is no default is missed."""
    config = load_config({"model.base": "embedded", "data.train_data_dir": "embedded", "network.rank": 8})
    logged = {name: str(value) for name, value in flat(config).items()}
    now = recipe_of(LoraExperiment, logged, "digest")
    for name in ("loss.noise_offset", "optimizer.lr_scheduler", "network.use_dora", "data.flip_aug"):
        before = recipe_of(LoraExperiment, {key: value for key, value in logged.items() if key != name}, "digest")
        assert before == now
    assert recipe_of(LoraExperiment, {key: value for key, value in logged.items() if key != "network.rank"}, "digest") != now


def test_the_digits_of_a_recipe_stay_when_a_later_version_has_more_settings():
    """They are made of what is no default, so of a recipe that lacks a setting they are the same."""
    now = recipe(network__rank=8)
    before = {name: value for name, value in now.items() if name != "loss.noise_offset"}
    assert recipe_id(LoraExperiment, before) == recipe_id(LoraExperiment, now)
