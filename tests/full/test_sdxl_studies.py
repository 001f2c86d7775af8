"""A suite of two recipes and a sweep of one trial on Stable Diffusion XL, through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.runs.command import Finished, fashion_ml
from tests.runs.small_studies import EMBEDDED


@pytest.fixture
def place(tmp_path: Path, empty_store: Path, collection: Path) -> Path:
    """A folder with a store and the embedded collection."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    shutil.copytree(collection, tmp_path / "outputs" / collection.name)
    return tmp_path


def studied(kind: str, folder: Path, sdxl: Path, **spec: Any) -> Finished:
    """The study of a specification beside what all have in common: trainings of two steps and small evaluations."""
    settings = {
        "base": str(sdxl),
        "steps": 2,
        "evaluation.max_references": 6,
        "evaluation.images_per_reference": 1,
        "evaluation.num_inference_steps": 1,
        "evaluation.resamples": 50,
        "evaluation.prompts": "none",
        "evaluation.rotations": 0,
        "evaluation.without": ["fashion_clip"],
    }
    whole = {"name": "small", "trainer": "lora", "experiment": EMBEDDED, "settings": settings, **spec}
    (folder / "spec.yaml").write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    result = fashion_ml(kind, "spec.yaml", "--workers", "1", "--json", "facts.json", cwd=folder, uri=uri)
    assert result.returncode == 0, result.stderr + result.stdout
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return Finished(folder, facts, result.stdout, result.stderr, uri)


def test_two_recipes_are_compared_in_a_suite(place: Path, sdxl: Path):
    recipes = {"rank 2": {"settings": {"rank": 2}}, "both text encoders": {"settings": {"train_text_encoder": True}}}
    made = studied("suite", place, sdxl, recipes=recipes, metric="visual_loss", seeds=[0, 1, 2])
    assert "both text encoders" in made.stdout


def test_a_trial_of_a_sweep_trains_is_evaluated_and_is_the_best(place: Path, sdxl: Path):
    space = {"optimizer.learning_rate": {"type": "categorical", "choices": [1e-3]}}
    made = studied(
        "sweep",
        place,
        sdxl,
        search_space=space,
        sampler={"name": "grid"},
        objectives=[{"metric": "visual_loss"}],
        trials=1,
        confirm={"best": 0},
    )
    assert (made.facts["complete"], made.facts["failed"]) == (1, 0)
    best = yaml.safe_load((place / "outputs" / "sweeps" / "small" / "report" / "best.yaml").read_text(encoding="utf-8"))
    assert (best["model"]["base"], best["optimizer"]["learning_rate"]) == (str(sdxl), 1e-3)
