"""A sweep that confirms its best settings with three fresh seeds beside the default: six trainings more, so not in the ordinary suite."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.runs.command import fashion_ml
from tests.runs.test_sweep import children, sweep_in, written


def test_the_best_settings_are_confirmed_with_fresh_seeds_and_held_back_references(workdir: Path, collection: Path):
    shutil.copytree(collection, workdir / "outputs" / collection.name)
    written(workdir, confirm={"best": 1, "seeds": [7, 8, 9]})
    swept = sweep_in(workdir, os.environ["MLFLOW_TRACKING_URI"])
    client = MlflowClient(swept.uri)
    study = client.get_run(swept.facts["run_id"])
    below = children(client, study)
    trials = [run for run in below if "trial" in run.data.tags]
    confirming = [run for run in below if "confirms" in run.data.tags]
    assert sorted(run.data.tags["trial"] for run in trials) == ["0", "1", "2"]
    assert len(confirming) == 6
    assert {run.info.status for run in confirming} == {"FINISHED"}
    for run in confirming:
        assert [child.data.tags["kind"] for child in children(client, run)] == ["evaluation"]

    assert "confirmation.json" in {Path(item.path).name for item in client.list_artifacts(study.info.run_id, "report")}
    assert "in the search" in swept.stdout
    assert "with fresh seeds; the default has" in swept.stdout
    assert "no verdict: one reference is fewer than 6" in swept.stdout
    folder = workdir / "outputs" / "sweeps" / "small"
    head = (folder / "report" / "best.yaml").read_text(encoding="utf-8").splitlines()[:3]
    assert "by the half of the references that is the search's" in head[0]
    assert head[1] == "# Confirmed with training seeds 7, 8, 9, image seed 1001 and references held back from the search:"
    assert "in the search" in head[2]
    assert "gain of this recipe" in head[2]
    half = ("--set", "evaluation.references_part=search")  # what the trial was measured by
    command = ("train", "lora", "--config", str(folder / "report" / "best.yaml"), *half, "--json", "again.json")
    assert fashion_ml(*command, cwd=workdir, uri=swept.uri).returncode == 0
    facts = json.loads((workdir / "again.json").read_text(encoding="utf-8"))
    value = facts["evaluation"]["metrics"]["weighted_total_loss"]["lora"]["mean"]
    assert value == pytest.approx(swept.facts["best"][0]["values"][0], abs=1e-6)
    shared = [path for path in (folder / "cache").glob("base_*") if path.is_dir()]
    assert len(shared) == 2  # of the search, and of what confirms it
