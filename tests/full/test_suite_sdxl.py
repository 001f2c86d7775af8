"""A suite of two recipes on Stable Diffusion XL, through the command line: six trainings and their evaluations."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from tests.runs.command import fashion_ml
from tests.runs.small_studies import EMBEDDED


def test_two_recipes_are_compared_in_a_suite(tmp_path: Path, empty_store: Path, collection: Path, sdxl: Path):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    shutil.copytree(collection, tmp_path / "outputs" / collection.name)
    spec = {
        "name": "small",
        "trainer": "lora",
        "experiment": EMBEDDED,
        "settings": {
            "base": str(sdxl),
            "steps": 2,
            "evaluation.max_references": 6,
            "evaluation.images_per_reference": 1,
            "evaluation.num_inference_steps": 1,
            "evaluation.resamples": 50,
            "evaluation.prompts": "none",
            "evaluation.rotations": 0,
            "evaluation.without": ["fashion_clip"],
        },
        "recipes": {"rank 2": {"settings": {"rank": 2}}, "both text encoders": {"settings": {"train_text_encoder": True}}},
        "metric": "visual_loss",
        "seeds": [0, 1, 2],
    }
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    result = fashion_ml("suite", "suite.yaml", "--workers", "1", "--json", "facts.json", cwd=tmp_path, uri=uri)
    assert result.returncode == 0, result.stderr + result.stdout
    assert "both text encoders" in result.stdout
