"""A small sweep through the command line: two workers, the run tree, the report, and a failing trial; tests/full confirms one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from tests.full.kill_scenarios import pictures
from tests.runs.command import Command, Finished, fashion_ml
from tests.runs.small_studies import EMBEDDED, SMALL, children

SPEC: dict[str, Any] = {
    "name": "small",
    "trainer": "lora",
    "experiment": EMBEDDED,
    "settings": {**SMALL, "evaluation.max_references": 2},
    "search_space": {"optimizer.learning_rate": {"type": "categorical", "choices": [1e-4, 1e-2, 1e30]}},
    "sampler": {"name": "grid"},
    "objectives": [{"metric": "weighted_total_loss"}],
    "constraints": ["parameters <= 1e9"],
    "trials": 3,
    "confirm": {"best": 0},
    "heartbeat_seconds": 5,
}


def written(folder: Path, **changes: Any) -> None:
    (folder / "sweep.yaml").write_text(yaml.safe_dump({**SPEC, **changes}), encoding="utf-8")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, collection: Path) -> Finished:
    folder = tmp_path_factory.mktemp("swept")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    shutil.copytree(collection, folder / "outputs" / collection.name)
    pictures(folder)
    written(folder, settings={**SPEC["settings"], "data.train_data_dir": "train", "evaluation.references": "held"})
    return sweep_in(folder, uri)


def sweep_in(folder: Path, uri: str) -> Finished:
    """The sweep that is written in a folder, by two workers."""
    result = fashion_ml("sweep", "sweep.yaml", "--workers", "2", "--json", "facts.json", cwd=folder, uri=uri)
    assert result.returncode == 0, result.stderr + result.stdout
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return Finished(folder, facts, result.stdout, result.stderr, uri)


def test_the_tree_is_study_trial_evaluation_and_nothing_is_left_running(swept: Finished):
    client = MlflowClient(swept.uri)
    study = client.get_run(swept.facts["run_id"])
    assert study.data.tags["kind"] == "sweep"
    trials = children(client, study)
    assert sorted(run.data.tags["trial"] for run in trials) == ["0", "1", "2"]
    for run in trials:
        assert run.data.tags["kind"] == "train_lora"
        ended = ["evaluation"] if run.info.status == "FINISHED" else []
        assert [child.data.tags["kind"] for child in children(client, run)] == ended
    runs = client.search_runs([study.info.experiment_id], max_results=1000)
    assert sorted({run.info.status for run in runs}) == ["FAILED", "FINISHED"]


def test_a_trial_that_fails_does_not_stop_the_sweep_and_says_why(swept: Finished):
    assert (swept.facts["complete"], swept.facts["failed"], swept.facts["left"]) == (2, 1, 0)
    client = MlflowClient(swept.uri)
    (failed,) = [run for run in children(client, client.get_run(swept.facts["run_id"])) if run.info.status == "FAILED"]
    assert float(failed.data.tags["searched.optimizer.learning_rate"]) == 1e30
    trials = pd.read_csv(swept.folder / "outputs" / "sweeps" / "small" / "report" / "trials.csv")
    assert "total_loss is not finite" in trials["error"].dropna().item()


def test_the_best_trial_is_the_lowest_and_its_experiment_trains_to_the_same_value(swept: Finished):
    trials = pd.read_csv(swept.folder / "outputs" / "sweeps" / "small" / "report" / "trials.csv")
    best = trials.loc[trials["weighted_total_loss"].idxmin()]
    assert swept.facts["best"][0]["values"] == [best["weighted_total_loss"]]
    place = swept.folder / "outputs" / "sweeps" / "small" / "report" / "best.yaml"
    assert yaml.safe_load(place.read_text(encoding="utf-8"))["optimizer"]["learning_rate"] == best["optimizer.learning_rate"]
    again = fashion_ml("train", "lora", "--config", str(place), "--json", "again.json", cwd=swept.folder, uri=swept.uri)
    assert again.returncode == 0, again.stderr
    facts = json.loads((swept.folder / "again.json").read_text(encoding="utf-8"))
    value = facts["evaluation"]["metrics"]["weighted_total_loss"]["lora"]["mean"]
    assert value == pytest.approx(best["weighted_total_loss"], abs=1e-6)


def test_the_report_is_on_the_studys_run(swept: Finished):
    client = MlflowClient(swept.uri)
    names = {Path(item.path).name for item in client.list_artifacts(swept.facts["run_id"], "report")}
    assert {"trials.csv", "best.yaml", "optimization_history.png", "slice.png"} <= names
    metrics = client.get_run(swept.facts["run_id"]).data.metrics
    shared = list((swept.folder / "outputs" / "sweeps" / "small" / "cache").glob("base_*"))
    assert len([path for path in shared if path.is_dir()]) == 1
    assert metrics["best_weighted_total_loss"] == swept.facts["best"][0]["values"][0]


def test_a_sweep_that_is_done_has_nothing_left_to_do(swept: Finished):
    again = fashion_ml("sweep", "sweep.yaml", "--json", "second.json", cwd=swept.folder, uri=swept.uri)
    assert again.returncode == 0, again.stderr
    facts = json.loads((swept.folder / "second.json").read_text(encoding="utf-8"))
    assert (facts["run_id"], facts["complete"], facts["best"]) == (swept.facts["run_id"], 2, swept.facts["best"])


def test_what_cannot_begin_leaves_no_study_behind(refused: Command, workdir: Path):
    written(workdir)
    (line,) = refused("sweep", "sweep.yaml", "--launcher", "ray")
    assert "no Ray cluster" in line
    (line,) = refused("sweep-report", "sweep.yaml")
    assert "holds no study 'small'; begin it with fashion-ml sweep" in line


def test_a_forbidden_objective_is_one_line_and_exit_code_2(refused: Command, workdir: Path):
    written(workdir, objectives=[{"metric": "g_loss"}])
    (line,) = refused("sweep", "sweep.yaml")
    assert "g_loss contains -lambda_ds * ds" in line


def test_without_a_server_a_sweep_says_so_without_the_password(refused: Command, workdir: Path):
    written(workdir)
    (line,) = refused("sweep", "sweep.yaml", "--storage", "postgresql://me:open-sesame@127.0.0.1:1/x")
    assert "--storage: 'postgresql+psycopg://127.0.0.1:1/x' cannot be used" in line
    assert "open-sesame" not in line
    assert line.endswith("start that server, and check its user and password")  # the driver is there
    (line,) = refused("sweep", "sweep.yaml", "--storage", "nodb://host/x")
    assert line.endswith("give a SQLAlchemy URL whose driver is installed")
