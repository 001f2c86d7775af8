"""What trainings will read, looked at before the first of them: every different experiment, once, and nothing is left behind."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from fashion_ml.config import EXPERIMENTS, load_experiment
from fashion_ml.errors import InputError
from fashion_ml.runs.check_inputs import check_inputs
from tests.runs.forked import fork_studies

PROJECT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def forked_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that looks is forked from one that has imported everything."""
    fork_studies(monkeypatch.setattr)


def experiment(kind: str, **settings: Any) -> Any:
    given = {path.replace("__", "."): value for path, value in settings.items()}
    return load_experiment(PROJECT / "experiments" / kind / "embedded.yaml", given, EXPERIMENTS[kind])


def test_what_is_wrong_with_each_different_lora_is_said_by_recipe(workdir: Path, caplog: pytest.LogCaptureFixture):
    recipes = {
        "plain": experiment("lora"),
        "rank 2": experiment("lora", network__rank="2"),
        "other data": experiment("lora", data__train_data_dir="/nowhere"),
        "other data, rank 2": experiment("lora", data__train_data_dir="/nowhere", network__rank="2"),
        "gpu": experiment("lora", optimizer__optimizer_type="adamw8bit"),
        "odd": experiment("lora", model__clip_skip="11"),
    }
    with caplog.at_level("INFO", logger="fashion_ml"), pytest.raises(InputError) as caught:
        check_inputs(recipes, written=False)
    assert [" ".join(problem.split()[:3]) for problem in caught.value.problems] == [
        "recipes.other data: data.train_data_dir:",
        "recipes.other data, rank",
        "recipes.gpu: optimizer.optimizer_type: adamw8bit",
        "recipes.odd: model.clip_skip: 11",
    ]
    assert "'/nowhere' does not exist" in caught.value.problems[0]
    assert "4 different experiments" in caplog.text  # ranks alone read the same
    assert sorted(path.name for path in workdir.iterdir()) == ["mlflow.db"]


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        ("lora", {"evaluation__references": "/nowhere"}, "evaluation.references: '/nowhere' does not exist"),
        (
            "lora",
            {"evaluation__references": "embedded/tunin"},
            "evaluation.references: 'embedded/tunin' is not known; the embedded pictures are embedded, embedded/train, "
            "embedded/tuning, embedded/references",
        ),
        (
            "lora",
            {"data__train_data_dir": "embedded/trian"},
            "data.train_data_dir: 'embedded/trian' is not known; the embedded pictures are embedded, embedded/train",
        ),
        (
            "stargan",
            {"data__latents_dir": "embedded/latents"},
            "data.latents_dir: 'embedded/latents' is not known; the embedded latents are embedded",
        ),
        ("lora", {"model__base": "/nowhere.safetensors"}, "model.base: '/nowhere.safetensors'"),
        ("stargan", {"data__latents_dir": "/nowhere"}, "data.latents_dir: '/nowhere' does not exist"),
        ("stargan", {"model__vae": "/nowhere"}, "model.vae: '/nowhere'"),
        ("stargan", {"evaluation__encoder": "/nowhere"}, "evaluation.encoder: '/nowhere'"),
    ],
)
def test_what_all_recipes_lack_is_said_once(kind: str, settings: dict[str, str], says: str, workdir: Path, collection: Path):
    shutil.copytree(collection, workdir / "outputs" / collection.name)  # else drawn anew by each
    other = {"loss__noise_offset": "0.05"} if kind == "lora" else {"loss__w_ds": "2"}
    with pytest.raises(InputError) as caught:
        check_inputs({"a": experiment(kind, **settings), "b": experiment(kind, **settings, **other)}, written=False)
    (line,) = caught.value.problems
    assert line.startswith(says)


def test_experiments_that_can_be_trained_pass_with_nothing_written(workdir: Path):
    check_inputs({"": experiment("lora")}, written=False)
    check_inputs({"": experiment("stargan")}, written=False)
    assert sorted(path.name for path in workdir.iterdir()) == ["mlflow.db"]


def test_a_check_that_comes_to_no_end_is_said_and_refuses_nothing(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("fashion_ml.runs.check_inputs.sys.executable", "/bin/false")
    with caplog.at_level("WARNING", logger="fashion_ml"):
        check_inputs({"a": experiment("lora")}, written=False)
    assert "What is read could not be looked at before: the check ended with 1" in caplog.text
