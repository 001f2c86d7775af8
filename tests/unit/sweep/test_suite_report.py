"""The report of a suite: what is on the page, in the files and on the run."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from PIL import Image

from fashion_ml.config import SuiteSpec, checked
from fashion_ml.evaluation.compare import Difference, Evaluated
from fashion_ml.evaluation.suites import SuiteComparison, compare_suite
from fashion_ml.evaluation.verdicts import Verdict
from fashion_ml.metrics.bootstrap import Interval
from fashion_ml.runtime.language import VARIABLE
from fashion_ml.sweep.suite_plots import confidences, save_gains, save_recipes
from fashion_ml.sweep.suite_report import _count, _labels, _rank, write_suite_report
from fashion_ml.sweep.suite_study import SuiteTraining
from fashion_ml.tracking.run import attach_id, open_run
from tests.unit.evaluation.suite_tables import recipe

SPEC: dict[str, Any] = {"name": "steps", "trainer": "lora", "experiment": "x.yaml", "recipes": {"whole": {}, "a third": {}}}
TOTAL = "weighted_total_loss"


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine speaks."""
    monkeypatch.setenv(VARIABLE, "en")


def evaluated(client: MlflowClient, experiment: str, name: str, mean: float, folder: Path) -> list[Evaluated]:
    """Three evaluations of a recipe with runs of their own, and a picture of each reference."""
    found = []
    for number, one in enumerate(recipe(name, mean, references=12)):
        run_id = client.create_run(experiment, tags={"kind": "evaluation"}).info.run_id
        client.set_terminated(run_id)
        place = folder / run_id
        place.mkdir(parents=True)
        for reference in one.table["reference"]:
            Image.new("RGB", (8, 8), (40 * number, 100, 200)).save(place / f"{reference}_0.png")
        client.log_artifacts(run_id, str(place), "images/lora")
        captions = [f"a dress, {reference}" for reference in one.table["reference"]]
        found.append(Evaluated(run_id, run_id, one.facts, one.table.assign(caption=captions), training_seed=one.training_seed))
    return found


@pytest.fixture
def written(workdir: Path) -> tuple[Path, str, SuiteComparison, MlflowClient]:
    """A suite of two recipes x three seeds, one of which failed once, and its report: folder, run, comparison, client."""
    client = MlflowClient(f"sqlite:///{workdir / 'mlflow.db'}")
    spec = checked(SPEC, SuiteSpec)
    with open_run("steps", {"kind": "suite", "suite": "steps"}, experiment="e") as run:
        sides = {
            name: evaluated(client, run.experiment_id, name, mean, workdir / "made")
            for name, mean in (("whole", 0.37), ("a third", 0.43))
        }
        training = client.create_run(run.experiment_id, tags={"training_seconds": "3600.0"}).info.run_id
        trainings = [
            SuiteTraining(name, int(one.training_seed or 0), "complete", training, one.run_id, 0.4, 5400.0, "")
            for name, own in sides.items()
            for one in own
        ]
        trainings.append(SuiteTraining("whole", 3, "fail", "", "", None, 0.0, "total_loss is not <finite>"))
        found = compare_suite(sides, "whole")
        write_suite_report(spec, found, trainings, workdir / "report", run)
    return workdir / "report", run.run_id, found, client


def test_every_file_is_in_the_folder_and_on_the_run(written: tuple[Path, str, SuiteComparison, MlflowClient]):
    folder, run_id, found, client = written
    files = {"report.html", "suite.json", "recipes.csv", "differences.csv", "trainings.csv", "recipes.png", "gains.png"}
    files |= {f"pictures_{number}.png" for number in range(3)}
    assert {path.name for path in folder.iterdir()} == files
    assert {Path(item.path).name for item in client.list_artifacts(run_id, "report")} == files
    run = client.get_run(run_id)
    assert run.data.tags["mlflow.note.content"].split("\n\n") == found.sentences().split("\n")
    assert (run.data.tags["verdict"], run.data.tags["best_recipe"]) == ("worse", "a third")
    gain = found.primary()["a third"].difference.gain
    assert gain.ends is not None
    assert [run.data.metrics[name] for name in ("gain", "gain_low", "gain_high")] == pytest.approx([gain.mean, *gain.ends])


def test_a_report_that_is_written_again_makes_no_second_point(written: tuple[Path, str, SuiteComparison, MlflowClient]):
    folder, run_id, found, client = written
    attached = attach_id(run_id)
    for _ in range(2):  # as a command does that was killed before it could note that the report is there
        write_suite_report(checked(SPEC, SuiteSpec), found, [], folder, attached)
        attached.flush()
    assert [len(client.get_metric_history(run_id, name)) for name in ("gain", "gain_low", "gain_high")] == [1, 1, 1]


def test_a_recipe_that_is_better_stands_for_its_suite_before_one_with_a_larger_gain_that_is_not_shown():
    def gain(mean: float, verdict: Verdict) -> Difference:
        return Difference(TOTAL, 0.5, 0.5 - mean, Interval(mean, None, None, 24), verdict=verdict)

    found = {"one seed": gain(0.3, ""), "noisy": gain(0.2, "not shown"), "winner": gain(0.1, "better")}
    assert sorted(found, key=lambda name: _rank(found[name])) == ["one seed", "noisy", "winner"]


def test_names_with_dollars_are_drawn_as_they_are(tmp_path: Path, written: tuple[Path, str, SuiteComparison, MlflowClient]):
    found = written[2]
    names = {"whole": "$\\foo$ b", "a third": "cost $5 to $10"}
    own = {name: getattr(found, name) for name in ("recipes", "scores", "differences")}
    renamed = replace(
        found,
        baseline=names[found.baseline],
        **{key: {names[name]: one for name, one in tree.items()} for key, tree in own.items()},
    )
    for draw in (save_recipes, save_gains):
        draw(tmp_path / "drawn.png", renamed)
        assert Image.open(tmp_path / "drawn.png").size[0] > 100


def test_the_page_begins_with_the_three_lines_and_fetches_nothing(written: tuple[Path, str, SuiteComparison, MlflowClient]):
    folder, _, found, _ = written
    page = (folder / "report.html").read_text(encoding="utf-8")
    head = page[: page.index("<h2>")]
    both = [*found.sentences("en").splitlines(), *found.sentences("zh-TW").splitlines()]
    assert [unescape(line) for line in re.findall(r"<p>(.*?)</p>", head)] == both
    assert not re.search(r'(src|href)="(?!data:|/#/)', page)
    assert "<script" not in page
    assert "total_loss is not &lt;finite&gt;" in page
    assert "9.00 hours in all: 6.00 of training" in page
    assert page.count("data:image/png") == 5


def test_a_latent_guided_similarity_and_its_loss_are_one_row():
    def stargan(name: str, mean: float) -> list[Evaluated]:
        own = recipe(name, mean)
        tables = [one.table.assign(latent_ssim=one.table["ssim"], latent_visual_loss=one.table["visual_loss"]) for one in own]
        return [
            replace(one, table=table.assign(target="x").drop(columns="seed")) for one, table in zip(own, tables, strict=True)
        ]

    found = compare_suite({"a": stargan("a", 0.37), "b": stargan("b", 0.43)}, "a")
    assert {"latent_ssim", "latent_visual_loss"} <= set(found.metrics)
    assert set(_labels(found).values()) == {TOTAL, "visual_loss (1 - ssim)", "latent_visual_loss (1 - ssim)"}


def test_a_number_of_seeds_that_nobody_trains_is_no_want_of_references():
    assert [_count(12, False), _count(None, False), _count(None, True)] == ["12", "more than 200", "more references"]


def test_a_later_report_without_an_interval_leaves_no_earlier_ones_on_the_run(
    written: tuple[Path, str, SuiteComparison, MlflowClient],
):
    folder, run_id, found, client = written
    short = {name: list(own)[:2] for name, own in found.recipes.items()}
    attached = attach_id(run_id)
    write_suite_report(checked(SPEC, SuiteSpec), compare_suite(short, "whole"), [], folder, attached)
    attached.flush()
    run = client.get_run(run_id)
    assert [math.isnan(run.data.metrics[name]) for name in ("gain_low", "gain_high")] == [True, True]
    assert run.data.tags["verdict"] == ""
    with open_run("few", {"kind": "suite", "suite": "few"}, experiment="e") as first:
        write_suite_report(checked(SPEC, SuiteSpec), compare_suite(short, "whole"), [], folder.parent / "few", first)
    assert set(client.get_run(first.run_id).data.metrics) == {"gain"}  # what was not measured is absent


def test_gains_are_drawn_with_the_confidence_that_their_p_asks_for():
    sides = {"a": recipe("a", 0.37), "b": recipe("b", 0.43), "c": recipe("c", 0.37, draw=2)}
    assert confidences(compare_suite({name: sides[name] for name in "ab"}, "a")) == "95 %"
    assert confidences(compare_suite(sides, "a")) == "95 to 97.5 %"


def test_the_tables_hold_what_the_comparison_does(written: tuple[Path, str, SuiteComparison, MlflowClient]):
    folder, _, found, _ = written
    differences = pd.read_csv(folder / "differences.csv").set_index(["recipe", "metric"])
    assert differences.loc[("a third", TOTAL), "verdict"] == "worse"
    assert differences.loc[("a third", TOTAL), "gain"] == pytest.approx(found.primary()["a third"].difference.gain.mean)
    means = pd.read_csv(folder / "recipes.csv")
    assert set(means["recipe"]) == {"whole", "a third"}
    trainings = pd.read_csv(folder / "trainings.csv")
    assert list(trainings["state"]) == ["complete"] * 6 + ["fail"]
    tree = json.loads((folder / "suite.json").read_text(encoding="utf-8"))
    assert tree["errors"] == {"whole, seed 3": "total_loss is not <finite>"}
    assert tree["sentences"]["zh-TW"] == found.sentences("zh-TW").splitlines()
    assert tree["cost_hours"]["training"] == 6


def test_a_picture_stands_under_its_seed_in_the_row_of_its_recipe(written: tuple[Path, str, SuiteComparison, MlflowClient]):
    folder, *_ = written
    sheet = np.asarray(Image.open(folder / "pictures_0.png").convert("RGB"))
    reds = {int(red) for red in (0, 40, 80) if (sheet == (red, 100, 200)).all(axis=2).any()}
    assert reds == {0, 40, 80}


def test_pictures_that_are_lost_leave_the_rest_of_the_report(workdir: Path):
    sides = {name: recipe(name, mean) for name, mean in (("whole", 0.37), ("蕾絲 <b>", 0.43))}
    found = compare_suite(sides, "whole")
    with open_run("steps", {"kind": "suite"}, experiment="e") as run:
        write_suite_report(checked(SPEC, SuiteSpec), found, [], workdir / "report", run)
    page = (workdir / "report" / "report.html").read_text(encoding="utf-8")
    assert "One prompt over recipes and seeds" not in page
    assert "蕾絲 &lt;b&gt;" in page
