"""A sweep that confirms its best settings with three fresh seeds beside the default: six trainings more, so not in the ordinary suite."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from tests.runs.command import Finished, fashion_ml
from tests.runs.small_studies import PROJECT, children
from tests.runs.test_sweep import SPEC, sweep_in, written


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
    beside = json.loads((folder / "report" / "best.json").read_text(encoding="utf-8"))
    assert (beside["verdict"], beside["why"]) == ("", "one reference is fewer than 6, with which no test can reach p < 0.05")
    assert beside["searched"]["weighted_total_loss"] == swept.facts["best"][0]["values"][0]
    assert head[1] == "# Confirmed with training seeds 7, 8, 9, image seed 1001 and references held back from the search:"
    assert "in the search" in head[2]
    assert "gain of this recipe" in head[2]
    _report_elsewhere(workdir, swept, client, study)
    half = ("--set", "evaluation.references_part=search")  # what the trial was measured by
    command = ("train", "lora", "--config", str(folder / "report" / "best.yaml"), *half, "--json", "again.json")
    assert fashion_ml(*command, cwd=workdir, uri=swept.uri).returncode == 0
    facts = json.loads((workdir / "again.json").read_text(encoding="utf-8"))
    value = facts["evaluation"]["metrics"]["weighted_total_loss"]["lora"]["mean"]
    assert value == pytest.approx(swept.facts["best"][0]["values"][0], abs=1e-6)
    shared = [path for path in (folder / "cache").glob("base_*") if path.is_dir()]
    assert len(shared) == 2  # of the search, and of what confirms it


def _report_elsewhere(workdir: Path, swept: Finished, client: MlflowClient, study: Any) -> None:
    """A report in a folder that has none of the files tells what was confirmed, and trains nothing; of other seeds it says what is left."""
    other = workdir / "other"
    other.mkdir()
    storage = ("--storage", f"sqlite:///{workdir / 'outputs' / 'sweeps' / 'small' / 'study.db'}")
    for seeds, confirmed, left in (([7, 8, 9], 1, 0), ([17, 18, 19], 0, 6)):
        written(other, confirm={"best": 1, "seeds": seeds})
        told = fashion_ml("sweep-report", "sweep.yaml", *storage, "--json", "told.json", cwd=other, uri=swept.uri)
        assert told.returncode == 0, told.stderr
        facts = json.loads((other / "told.json").read_text(encoding="utf-8"))
        assert (len(facts["confirmed"]), len(facts["to_confirm"])) == (confirmed, left)
    assert "confirmation number 2 of this sweep (p times 3); before it seeds 7, 8, 9" in told.stderr
    assert len([run for run in children(client, study) if "confirms" in run.data.tags]) == 6


@pytest.mark.timeout(1800)
def test_the_best_of_rates_that_hardly_differ_is_not_shown_and_a_quick_look_is_marked(workdir: Path, collection: Path):
    """Twelve references on each side and few steps: what trials differ by is chance, and the report says so in both numbers."""
    shutil.copytree(collection, workdir / "outputs" / collection.name)
    rates = {"optimizer.learning_rate": {"type": "categorical", "choices": [0.00098, 0.001, 0.00102]}}
    settings = {
        **SPEC["settings"],
        "training.max_train_steps": 12,
        "evaluation.max_references": 24,
        "evaluation.num_inference_steps": 3,
    }
    written(workdir, search_space=rates, settings=settings, confirm={"best": 1, "seeds": [7, 8, 9]})
    folder, uri = workdir / "outputs" / "sweeps" / "small", os.environ["MLFLOW_TRACKING_URI"]
    looked = fashion_ml("sweep", "sweep.yaml", "--workers", "2", "--quick", "--json", "facts.json", cwd=workdir, uri=uri)
    assert looked.returncode == 0, looked.stderr
    assert "quick: one seed, not a confirmation" in looked.stdout
    assert "# Quick: one seed, not a confirmation" in (folder / "report" / "best.yaml").read_text(encoding="utf-8")
    run_id = json.loads((workdir / "facts.json").read_text(encoding="utf-8"))["run_id"]
    client = MlflowClient(uri)
    assert client.get_run(run_id).data.tags["confirmation"] == "quick: one seed, not a confirmation"

    swept = sweep_in(workdir, uri)
    assert "In the confirmation with 3 seeds x 12 references a difference in " in swept.stderr
    assert ": not shown: by what the search has not seen, the default may be as good" in swept.stdout
    assert client.get_run(run_id).data.tags["confirmation"] == "not shown"
    beside = json.loads((folder / "report" / "best.json").read_text(encoding="utf-8"))
    assert (beside["verdict"], beside["quick"], beside["confirmed"]["n"]) == ("not shown", "", 12)
    assert beside["confirmed"]["low"] < 0 < beside["confirmed"]["high"]
    assert len([run for run in children(client, client.get_run(run_id)) if "confirms" in run.data.tags]) == 6


@pytest.mark.timeout(1800)
def test_a_sweep_of_stargans_is_confirmed_by_contents_that_it_has_not_seen(workdir: Path):
    tree = {
        "name": "gan",
        "trainer": "stargan",
        "experiment": str(PROJECT / "experiments" / "stargan" / "embedded.yaml"),
        "settings": {
            "training.epochs": 1,
            "training.epoch_size": 16,
            "network.base_dim": 8,
            "network.n_res_blocks": 1,
            "evaluation.contents_per_domain": 3,
            "evaluation.rotations": 0,
        },
        "search_space": {"loss.w_ds": {"type": "categorical", "choices": [0.5, 2.0]}},
        "sampler": {"name": "grid"},
        "objectives": [{"metric": "weighted_total_loss"}],
        "confirm": {"best": 1, "seeds": [7, 8, 9]},
    }
    (workdir / "sweep.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    swept = sweep_in(workdir, os.environ["MLFLOW_TRACKING_URI"])
    assert "By 9 contents held back from the search its best settings are confirmed" in swept.stderr
    beside = json.loads((workdir / "outputs" / "sweeps" / "gan" / "report" / "best.json").read_text(encoding="utf-8"))
    assert beside["confirmed"]["contents"] == "held back from the search"
    assert (beside["confirmed"]["claim"], beside["confirmed"]["n"]) == ("this recipe", 9)
    assert beside["verdict"] or beside["why"] == "these are the default's own settings"
