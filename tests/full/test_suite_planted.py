"""A difference that is there is found: a recipe with a third of the steps, six real trainings, so not in the ordinary suite."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from tests.runs.command import fashion_ml

PROJECT = Path(__file__).parents[2]
SUITE: dict[str, Any] = {
    "name": "planted",
    "trainer": "lora",
    "experiment": str(PROJECT / "experiments" / "lora" / "embedded.yaml"),
    "settings": {
        "evaluation.images_per_reference": 1,
        "evaluation.num_inference_steps": 10,
        "evaluation.prompts": "none",
        "evaluation.extra_metrics": [],
        "evaluation.rotations": 0,
        "evaluation.without": ["fashion_clip"],
    },
    "recipes": {
        "a third": {"settings": {"training.max_train_steps": 30}},
        "whole": {"settings": {"training.max_train_steps": 90}},
    },
    "metric": "visual_loss",
    "seeds": [0, 1, 2],
}


@pytest.mark.timeout(1800)
def test_a_third_of_the_steps_is_found_to_be_worse(workdir: Path, collection: Path):
    shutil.copytree(collection, workdir / "outputs" / collection.name)
    (workdir / "suite.yaml").write_text(yaml.safe_dump(SUITE, sort_keys=False), encoding="utf-8")
    uri = os.environ["MLFLOW_TRACKING_URI"]
    result = fashion_ml("suite", "suite.yaml", "--workers", "2", "--json", "facts.json", cwd=workdir, uri=uri)
    assert result.returncode == 0, result.stderr + result.stdout
    facts = json.loads((workdir / "facts.json").read_text(encoding="utf-8"))
    found = facts["differences"]["whole"]["visual_loss"]["difference"]
    assert found["verdict"] == "better"
    assert found["gain"]["low"] > 0
    assert facts["winners"] == ["whole"]
    assert "better: whole (gain +" in result.stdout
    client = MlflowClient(uri)
    report = {Path(item.path).name for item in client.list_artifacts(facts["run_id"], "report")}
    assert {"report.html", "suite.json", "recipes.png", "gains.png", "pictures_0.png"} <= report

    for name in ("a third", "whole"):
        evaluation = next(iter(facts["recipes"][name]["trainings"]))
        training = client.get_run(evaluation).data.tags["mlflow.parentRunId"]
        command = ("register", training, "--name", "look", "--suite", facts["run_id"], "--json", "registered.json")
        assert fashion_ml(*command, cwd=workdir, uri=uri).returncode == 0
        registered = json.loads((workdir / "registered.json").read_text(encoding="utf-8"))
        assert not registered["champion"]  # whatever won: without an encoder nothing says whether it is better than its base
        assert "without weighted_total_loss" in registered["why"]
