from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fashion_ml.config import load_config
from fashion_ml.errors import InputError
from fashion_ml.runs.without_config import check_named, lora_experiment, stargan_experiment


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "embedded"),
        ({"training.max_train_steps": "3", "network.rank": "4"}, "embedded"),
        ({"model.base": "embedded"}, "embedded"),
        ({"data.train_data_dir": "embedded", "model.base": ""}, "embedded"),
        ({"evaluation.references": "looks"}, "embedded"),
        ({"data.train_data_dir": "photos"}, "sd15_fashion"),
        ({"train-data-dir": "photos"}, "sd15_fashion"),  # as --set takes it
        ({"model.base": "/models/sd15"}, "sd15_fashion"),
        ({"pretrained_model_name_or_path": "/models/sd15", "data.train_data_dir": "embedded"}, "sd15_fashion"),
        ({"data.train_data_dir": "photos", "model.base": "embedded"}, "embedded"),
    ],
)
def test_a_base_or_images_of_ones_own_are_trained_by_the_recipe_of_stable_diffusion(given: dict[str, str], name: str):
    assert lora_experiment(given).name == f"{name}.yaml"


def test_a_base_on_disk_is_trained_by_the_recipe_of_its_family(sdxl: Path):
    assert lora_experiment({"model.base": str(sdxl), "data.train_data_dir": "photos"}).name == "sdxl_fashion.yaml"
    assert lora_experiment({"model.base": str(sdxl.parent)}).name == "sd15_fashion.yaml"


def test_a_written_collection_is_the_embedded_world_too(collection: Path):
    assert lora_experiment({"data.train_data_dir": str(collection / "train")}).name == "embedded.yaml"


def test_which_recipe_it_is_is_said_unless_all_is_embedded(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", logger="fashion_ml")
    lora_experiment({"network.rank": "4"})
    stargan_experiment({"loss.w_ds": "2"})
    assert caplog.messages == []
    lora_experiment({"data.train_data_dir": "photos"})
    stargan_experiment({"model.vae": "/models/sd15"})
    named = [message.split()[6] for message in caplog.messages]
    assert named == ["experiments/lora/sd15_fashion.yaml,", "experiments/stargan/sd15_latent.yaml,"]


def test_latents_are_trained_with_the_recipe_of_the_vae_that_made_them(tmp_path: Path):
    for name, vae in (("toy", "embedded"), ("photos", "/models/sd15")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(json.dumps({"vae": vae}), encoding="utf-8")
    found = {name: stargan_experiment({"data.latents_dir": str(tmp_path / name)}).name for name in ("toy", "photos", "none")}
    assert found == {"toy": "embedded.yaml", "photos": "sd15_latent.yaml", "none": "sd15_latent.yaml"}
    assert stargan_experiment({}).name == "embedded.yaml"
    assert stargan_experiment({"latents_dir": "latents", "vae": "embedded"}).name == "embedded.yaml"


NAMED = {"base": "/models/sd15", "encoder": "local-dir:/models/clip"}


@pytest.mark.parametrize(
    ("given", "asked_for"),
    [
        ({}, ["model.base", "evaluation.encoder"]),
        ({"base": "/models/sd15"}, ["evaluation.encoder"]),
        ({"model.base": "owner/name", "evaluation.encoder": "owner/clip"}, []),
        (NAMED, []),
        ({"base": "/models/sd15", "without": "fashion_clip"}, []),
        ({"base": "/models/sd15", "evaluate": "false"}, []),
        ({"base": "/models/sd15", "evaluate": "false", "performance_check_interval": "5"}, ["evaluation.encoder"]),
        ({"base": "embedded"}, []),
    ],
)
def test_nothing_is_fetched_that_nobody_named(tmp_path: Path, given: dict[str, str], asked_for: list[str]):
    (tmp_path / "10_dress").mkdir()
    settings = {"train_data_dir": str(tmp_path), **given}
    experiment = load_config(lora_experiment(settings), settings)
    assert asked(lambda: check_named(experiment, settings)) == asked_for


@pytest.mark.parametrize(
    ("given", "asked_for"),
    [({}, ["model.vae", "evaluation.encoder"]), ({"vae": "owner/vae", "evaluate": "false"}, []), ({"vae": "embedded"}, [])],
)
def test_no_vae_is_fetched_that_nobody_named(tmp_path: Path, given: dict[str, str], asked_for: list[str]):
    settings = {"latents_dir": str(tmp_path), **given}
    experiment = load_config(stargan_experiment(settings), settings, kind="stargan")
    assert asked(lambda: check_named(experiment, settings)) == asked_for


def asked(check: Callable[[], None]) -> list[str]:
    """The settings that an error asks for."""
    try:
        check()
    except InputError as error:
        return [problem.partition(":")[0] for problem in error.problems]
    return []
