"""A small suite through the command line, killed once and gone on with: the run tree, the trainings, the report."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from mlflow import MlflowClient

from fashion_ml.config import load_config, load_suite
from fashion_ml.sweep.plan import storage_url
from fashion_ml.sweep.study import open_planned, queue
from fashion_ml.sweep.suite_study import plan_of_suite
from fashion_ml.sweep.trial import TrialError, own_slot
from tests.full.kill_scenarios import pictures
from tests.runs.command import Command, Finished, fashion_ml
from tests.runs.forked import ForkedPopen
from tests.runs.small_studies import EMBEDDED, SMALL, children

SPEC: dict[str, Any] = {
    "name": "small",
    "trainer": "lora",
    "experiment": EMBEDDED,
    "settings": {
        **SMALL,
        "evaluation.max_references": 6,
        "evaluation.rotations": 0,
        "evaluation.without": ["fashion_clip"],
    },
    "recipes": {"rank 2": {"settings": {"rank": 2}}, "fast": {"settings": {"lr": 1e-2}}},
    "metric": "visual_loss",
    "seeds": [0, 1, 2],
    "heartbeat_seconds": 1,
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({**SPEC, **changes}, sort_keys=False), encoding="utf-8")
    return path


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    """Those of the study in a folder; none before it is begun and its recipes are written down."""
    place = folder / "outputs" / "suites" / "small"
    if not list(place.glob("*.yaml")):  # opening a database that is being made would disturb it
        return []
    return list(optuna.load_study(study_name="small", storage=f"sqlite:///{place / 'study.db'}").trials)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, collection: Path) -> Finished:
    """A suite of six trainings whose command is killed (SIGKILL) after the first of them, and given again."""
    folder = tmp_path_factory.mktemp("compared")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    shutil.copy(empty_store, folder / "mlflow.db")
    shutil.copytree(collection, folder / "outputs" / collection.name)
    pictures(folder)
    written(folder, settings={**SPEC["settings"], "data.train_data_dir": "train"})
    command = [sys.executable, "-m", "fashion_ml", "suite", "suite.yaml", "--workers", "1"]
    with (folder / "log.txt").open("wb") as log:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
        first = ForkedPopen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    while not any(trial.state.name == "COMPLETE" for trial in trials(folder)):
        assert first.poll() is None, (folder / "log.txt").read_text(encoding="utf-8")
        time.sleep(0.5)
    first.send_signal(signal.SIGKILL)
    first.wait()
    result = fashion_ml("suite", "suite.yaml", "--workers", "2", "--json", "facts.json", cwd=folder, uri=uri)
    assert result.returncode == 0, result.stderr + result.stdout
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return Finished(folder, facts, result.stdout, result.stderr, uri)


def test_the_tree_is_suite_recipe_training_evaluation_and_each_training_is_there_once(compared: Finished):
    client = MlflowClient(compared.uri)
    top = client.get_run(compared.facts["run_id"])
    assert (top.data.tags["kind"], top.info.status) == ("suite", "FINISHED")
    recipes = children(client, top)
    assert {(run.data.tags["kind"], run.data.tags["recipe_name"], run.data.tags["baseline"]) for run in recipes} == {
        ("recipe", "rank 2", "true"),
        ("recipe", "fast", "false"),
    }
    for recipe in recipes:
        trainings = children(client, recipe)
        assert sorted(run.data.params["training.seed"] for run in trainings) == ["0", "1", "2"]
        assert recipe.data.metrics["visual_loss"] > 0
        for run in trainings:
            assert (run.data.tags["kind"], run.info.status) == ("train_lora", "FINISHED")
            ended = [child for child in children(client, run) if child.info.status == "FINISHED"]
            assert [child.data.tags["kind"] for child in ended] == ["evaluation"]
            points = [point.step for point in client.get_metric_history(run.info.run_id, "total_loss")]
            assert len(points) == len(set(points))
    runs = client.search_runs([top.info.experiment_id], max_results=1000)
    assert not [run for run in runs if run.info.status == "RUNNING"]


def test_a_recipe_has_the_settings_that_it_says_and_no_other_of_the_suites(compared: Finished):
    client = MlflowClient(compared.uri)
    runs = {run.data.tags["recipe_name"]: run for run in children(client, client.get_run(compared.facts["run_id"]))}
    given = {
        name: {(one.data.params["network.rank"], one.data.params["optimizer.learning_rate"]) for one in children(client, run)}
        for name, run in runs.items()
    }
    common = load_config(EMBEDDED)
    rank, rate = str(common.network.rank), str(common.optimizer.learning_rate)
    assert given == {"rank 2": {("2", rate)}, "fast": {(rank, "0.01")}}
    assert runs["fast"].data.params["recipe.network.rank"] == rank


def test_killed_and_gone_on_with_six_trainings_have_ended_and_share_one_cache(compared: Finished):
    assert (compared.facts["complete"], compared.facts["failed"], compared.facts["left"]) == (6, 0, 0)
    assert "Trainings 6 complete" in compared.stdout
    complete = [(one.user_attrs["recipe"], one.user_attrs["seed"]) for one in trials(compared.folder) if one.value is not None]
    assert sorted(complete) == [(name, seed) for name in ("fast", "rank 2") for seed in (0, 1, 2)]
    caches = [
        path.name for path in (compared.folder / "outputs" / "suites" / "small" / "cache").glob("base_*") if path.is_dir()
    ]
    assert len(caches) == 1


def test_the_report_is_on_the_suites_run(compared: Finished):
    client = MlflowClient(compared.uri)
    names = {Path(item.path).name for item in client.list_artifacts(compared.facts["run_id"], "report")}
    assert {"suite.json", "report.html", "recipes.png", "gains.png", "differences.csv"} <= names
    run = client.get_run(compared.facts["run_id"])
    facts = json.loads((compared.folder / "outputs" / "suites" / "small" / "report" / "suite.json").read_text(encoding="utf-8"))
    assert [line for line in run.data.tags["mlflow.note.content"].splitlines() if line] == facts["sentences"]["en"]
    gains = [own[facts["metric"]]["difference"]["gain"] for own in facts["differences"].values()]
    best = max(gains, key=lambda gain: gain["mean"])
    wanted = {"gain": best["mean"], "gain_low": best["low"], "gain_high": best["high"]}
    logged = {name: value for name, value in run.data.metrics.items() if name in wanted}
    assert logged == {name: value for name, value in wanted.items() if value is not None}
    assert "gain" in logged


def test_a_suite_that_is_done_has_nothing_left_to_do(compared: Finished):
    before, page = len(trials(compared.folder)), compared.folder / "outputs" / "suites" / "small" / "report" / "report.html"
    written_at = page.stat().st_mtime_ns
    again = fashion_ml("suite", "suite.yaml", "--json", "second.json", cwd=compared.folder, uri=compared.uri)
    assert again.returncode == 0, again.stderr
    facts = json.loads((compared.folder / "second.json").read_text(encoding="utf-8"))
    assert (facts["run_id"], facts["complete"]) == (compared.facts["run_id"], 6)
    assert facts["sentence"] == compared.facts["sentence"]
    assert page.stat().st_mtime_ns == written_at  # the report is the same
    report = fashion_ml("suite-report", "suite.yaml", cwd=compared.folder, uri=compared.uri)
    assert report.returncode == 0, report.stderr
    assert page.stat().st_mtime_ns > written_at  # asked for, it is written anew
    assert len(trials(compared.folder)) == before
    worker = fashion_ml("suite-worker", "suite.yaml", cwd=compared.folder, uri=compared.uri)
    assert worker.returncode == 0, worker.stderr
    said = fashion_ml("suite", "suite.yaml", "--dry-run", cwd=compared.folder, uri=compared.uri).stdout
    assert "2 recipes x seeds 0, 1, 2: 6 trainings of train lora, compared by visual_loss with rank 2" in said
    assert "for the 0 that are left" in said
    assert len(trials(compared.folder)) == before


def failing(folder: Path, recipes: set[str]) -> None:
    """The suite of a folder, whose trainings of some recipes have failed, and those of the others have ended."""
    spec, experiments = load_suite(folder / "suite.yaml", {})
    plan = plan_of_suite(spec, experiments)
    study = open_planned(plan, storage_url(spec, ""), create=True)
    queue(study, plan.slots)

    def train(trial: optuna.Trial) -> float:
        with own_slot(trial):
            if trial.user_attrs["recipe"] in recipes:
                raise TrialError("total_loss is not finite")
            return 0.5

    study.optimize(train, n_trials=len(plan.slots), catch=(TrialError,))


def test_where_nothing_can_be_compared_each_failure_is_said_and_the_exit_code_is_1(workdir: Path):
    """Whatever a recipe is called: no name is part of a param's or a folder's as it is."""
    odd = "快 (a+b), <100 %> / #1?"
    written(workdir, recipes={"rank 2": {"settings": {"rank": 2}}, odd: {"settings": {"lr": 1e30}}})
    failing(workdir, {odd})
    uri = os.environ["MLFLOW_TRACKING_URI"]
    result = fashion_ml("suite", "suite.yaml", "--json", "f.json", cwd=workdir, uri=uri)
    assert result.returncode == 1, result.stderr
    assert f"{odd}, seed 2 failed: total_loss is not finite" in result.stdout + result.stderr
    assert "Nothing can be compared: no recipe but the baseline was measured" in result.stdout
    facts = json.loads((workdir / "f.json").read_text(encoding="utf-8"))
    assert (facts["complete"], facts["failed"], facts["left"]) == (3, 3, 0)
    client = MlflowClient(uri)
    recipes = {run.data.tags["recipe_name"]: run for run in children(client, client.get_run(facts["run_id"]))}
    rank = load_config(EMBEDDED).network.rank
    assert recipes[odd].data.params == {"recipe.optimizer.learning_rate": "1e+30", "recipe.network.rank": str(rank)} | {
        "recipe.network.alpha": str(float(rank))
    }
    assert recipes[odd].data.tags["trainings.failed"] == "3"


def test_a_recipe_whose_data_are_not_there_is_refused_before_anything_is_trained(refused: Command, workdir: Path):
    recipes = {"plain": {}, "others": {"settings": {"data.train_data_dir": "not_mounted"}}}
    written(workdir, recipes=recipes, settings={**SPEC["settings"], "evaluation.references": "embedded"})
    for command in (["suite", "suite.yaml", "--dry-run"], ["suite", "suite.yaml", "--workers", "1"]):
        (line,) = refused(*command)
        assert "recipes.others: data.train_data_dir: 'not_mounted' does not exist" in line
    assert not (workdir / "outputs" / "suites").exists()


def test_what_cannot_begin_leaves_no_study_behind(refused: Command, workdir: Path):
    written(workdir)
    (line,) = refused("suite", "suite.yaml", "--launcher", "ray")
    assert "no Ray cluster" in line
    (line,) = refused("suite-report", "suite.yaml")
    assert "holds no study 'small'; begin it with fashion-ml suite" in line
