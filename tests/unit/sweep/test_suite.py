"""Suites: what is accepted and refused, the order of trainings, what each of them is, and the seeds that are added."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from rich.console import Console

from fashion_ml.config import differing, load_suite, suite_spec
from fashion_ml.errors import InputError
from fashion_ml.sweep import suite, suite_looks
from fashion_ml.sweep import trial as trial_module
from fashion_ml.sweep.local_workers import worker_command
from fashion_ml.sweep.notes import check_suite
from fashion_ml.sweep.silence import Silence
from fashion_ml.sweep.study import by_slot, open_planned, queue, queue_again
from fashion_ml.sweep.suite_looks import add_seeds
from fashion_ml.sweep.suite_study import (
    file_names,
    plan_of_suite,
    read_suite,
    refuse_other_seeds,
    slots_of,
    slots_there,
    time_known,
    trainings_of,
    wrong_metrics,
)
from fashion_ml.sweep.trial import PROCESS_SECONDS, TrialError
from fashion_ml.sweep.worker import take_trials

PROJECT = Path(__file__).parents[3]
SPEC: dict[str, Any] = {
    "name": "test",
    "trainer": "lora",
    "experiment": str(PROJECT / "experiments" / "lora" / "embedded.yaml"),
    "settings": {"steps": 150},
    "grid": {"network.rank": [4, 8, 16]},
    "heartbeat_seconds": 1,
}
STARGAN = {"trainer": "stargan", "experiment": str(PROJECT / "experiments" / "stargan" / "embedded.yaml"), "settings": {}}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "suite.yaml"
    tree = {key: value for key, value in {**SPEC, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def a_study(folder: Path, **changes: Any) -> tuple[Any, optuna.Study]:
    """A suite and its study, with every training of its own seeds queued."""
    spec, experiments = load_suite(written(folder, **changes), {})
    study = open_planned(plan_of_suite(spec, experiments), f"sqlite:///{folder / 'study.db'}", create=True)
    queue(study, {**slots_of(spec, spec.seeds), **slots_there(study, spec)})
    return spec, study


def worked(
    study: optuna.Study, values: dict[str, float] | None = None, failing: str = "", more: Any = lambda: False
) -> list[tuple[str, int]]:
    """A worker of which trainings answer at once; the recipe and seed of each, in their order."""
    made = []

    def train(trial: optuna.Trial) -> float:
        with trial_module.own_slot(trial):
            recipe, seed = trial.user_attrs["recipe"], trial.user_attrs["seed"]
            made.append((recipe, seed))
            if recipe == failing:
                raise TrialError("it diverges")
            return (values or {}).get(recipe, 0.5) + seed / 100

    take_trials(study, train, 1, more=more)
    return made


@pytest.mark.parametrize("path", sorted((PROJECT / "suites").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_suites_that_come_with_the_project_are_valid(path: Path):
    spec, experiments = read_suite(path)
    assert spec.name == path.stem
    assert len(experiments) * len(spec.seeds) >= 6


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"baseline": "rank 5"}, "baseline: 'rank 5' is no recipe; there are rank 4, rank 8, rank 16"),
        ({"grid": {"network.rank": [4]}}, "recipes: there is only 'rank 4'; give at least two"),
        ({"grid": None}, "recipes: there is none; give at least two"),
        (
            {"recipes": {True: {}}},
            "recipes: True is no text, as YAML reads on, off, yes, no and numbers; put the name in quotes",
        ),
        ({"recipes": {" a": {}}}, r"recipes. a.\[key\]: ' a' is not accepted"),
        ({"recipes": {"a": {"setings": {}}}}, "recipes.a.setings: unknown key; did you mean settings"),
        ({"recipes": {"a": 3}}, "recipes.a: 3 is not accepted"),
        ({"grid": {"network.rank": 4}}, "grid.network.rank: 4 is not accepted"),
        ({"recipes": {"rank 4": None}}, "recipes: 'rank 4' is a recipe of the grid too; call it otherwise, or leave it out"),
        ({"recipes": {"own": {"settings": {"rank": 4}}}}, "recipes.rank 4: trains just what own does; change one of them"),
        ({"grid": {"network.rank": [4, 8], "loss.noise_offset": [0.0, 0]}}, "trains just what rank 4, noise_offset 0.0 does"),
        ({"seeds": [0, 1]}, r"seeds: \[0, 1\] are fewer than 3: another seed alone moves the scores of one recipe"),
        ({"seeds": [0, 1, 1]}, "seeds: 1 is given twice, and one seed trains the same twice"),
        ({"seeds": [0, 1, -1]}, "seeds: -1 is below 0"),
        ({"max_seeds": 2}, "max_seeds: 2 is fewer than the 3 seeds; raise it, or leave it out"),
        ({"grid": {"seed": [0, 1]}}, "grid: training.seed is no part of a recipe: the best seed is luck"),
        ({"settings": {"training.seed": 3}}, "settings: training.seed is no part of a recipe"),
        ({"recipes": {"a": {"settings": {"output_name": "x"}}}}, "recipes.a.settings: output.output_name does not change what"),
        (
            {"recipes": {"a": {"settings": {"evaluation.seed": 5}}}},
            "evaluation.seed is 0 and that of a is 5, so their evaluations",
        ),
        ({"recipes": {"a": {"settings": {"resolution": 128}}}}, "data.resolution is 64 and that of a is 128"),
        (
            {
                "settings": {"evaluation.references": None},
                "recipes": {"a": {}, "b": {"settings": {"data.train_data_dir": "photos"}}},
                "grid": None,
            },
            "recipes.b: data.train_data_dir is photos and that of a is embedded, and without evaluation.references each is measured by "
            "the images that it is trained on, so they could not be compared; set evaluation.references",
        ),
        (
            {"settings": {"evaluation.enabled": False}},
            "evaluation.enabled: false, and recipes are compared by their evaluations",
        ),
        ({"settings": {"tracking.offline": True}}, "tracking.offline: true, but a suite needs its store to go on"),
        ({"recipes": {"a": {"settings": {"network.rnk": 5}}}}, "recipes.a: network.rnk: unknown key; did you mean"),
        ({"settings": {"network.rnk": 5}}, "^network.rnk: unknown key"),
        ({"experiment": "none.yaml"}, "^config: .*none.yaml' does not exist"),
        ({"recipes": {"a": {"experiment": "none.yaml"}}}, "recipes.a: config: .*none.yaml' does not exist"),
    ],
)
def test_one_line_says_what_is_wrong(changes: dict[str, Any], says: str, tmp_path: Path):
    with pytest.raises(InputError, match=says):
        load_suite(written(tmp_path, **changes), {})


def test_everything_that_is_wrong_is_said_at_once_and_what_is_wrong_everywhere_once(tmp_path: Path):
    changes = {"seeds": [0, 1], "baseline": "none", "metric": "kid", "settings": {"network.rnk": 5}}
    with pytest.raises(InputError) as caught:
        read_suite(written(tmp_path, **changes))
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["baseline", "seeds", "network.rnk", "metric"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"metric": "kid"}, "metric: 'kid' is measured and cannot rank"),
        ({"metric": "total_loss"}, "metric: 'total_loss' is no metric of train lora"),
        ({"metric": "val_loss"}, "metric: 'val_loss' is not measured reference by reference"),
        ({"metric": "parameters"}, "metric: 'parameters' is not measured reference by reference"),
        ({"metric": "editability"}, "metric: 'editability' is not measured reference by reference"),
        ({"metric": "memorised"}, "metric: of 'memorised' neither more nor less is better"),
        ({"compare": ["ssim", "beauty"]}, "compare: 'beauty' is no metric of train lora"),
        ({**STARGAN, "grid": {"loss.w_ds": [1, 2]}, "metric": "prompt_similarity"}, "is no metric of train stargan"),
    ],
)
def test_a_metric_that_cannot_rank_recipes_is_refused_with_the_reason(changes: dict[str, Any], says: str, tmp_path: Path):
    (line,) = wrong_metrics(suite_spec(written(tmp_path, **changes), {}))
    assert line.startswith(says) or says in line


def test_a_grid_makes_recipes_called_by_their_settings_beside_those_written_out(tmp_path: Path):
    grid = {"network.rank": [4, 8], "optimizer.learning_rate": [1e-3, 2e-3]}
    spec, experiments = load_suite(written(tmp_path, recipes={"plain": {}}, grid=grid), {})
    assert list(experiments) == [
        "plain",
        "rank 4, learning_rate 0.001",
        "rank 4, learning_rate 0.002",
        "rank 8, learning_rate 0.001",
        "rank 8, learning_rate 0.002",
    ]
    assert spec.against() == "plain"
    assert experiments["rank 8, learning_rate 0.002"].optimizer.learning_rate == 2e-3
    two = suite_spec(written(tmp_path, grid={"data.seed": [1], "evaluation.seed": [2]}), {})
    assert list(two.all_recipes()) == ["data.seed 1, evaluation.seed 2"]


def test_alpha_follows_the_rank_so_that_ranks_alone_differ(tmp_path: Path):
    _, experiments = load_suite(written(tmp_path), {})
    assert [one.network.alpha / one.network.rank for one in experiments.values()] == [1, 1, 1]
    assert differing(experiments, "rank 8") == {
        "rank 4": {"network.rank": 4, "network.alpha": 4},
        "rank 8": {},
        "rank 16": {"network.rank": 16, "network.alpha": 16},
    }


def test_stargans_are_suites_too(tmp_path: Path):
    changes = {**STARGAN, "grid": {"loss.w_ds": [0.5, 2]}, "metric": "domain_accuracy"}
    spec, experiments = read_suite(written(tmp_path, **changes))
    assert [one.loss.w_ds for one in experiments.values()] == [0.5, 2]
    assert plan_of_suite(spec, experiments).directions == ["maximize"]
    with pytest.raises(InputError, match=r"recipes.small: data.validation_split is 0.2 and that of plain is 0.1"):
        load_suite(
            written(
                tmp_path, **STARGAN, grid=None, recipes={"plain": {}, "small": {"settings": {"data.validation_split": 0.2}}}
            ),
            {},
        )


def test_recipes_advance_together_seed_by_seed(tmp_path: Path):
    _, study = a_study(tmp_path)
    ranks = ["rank 4", "rank 8", "rank 16"]
    assert worked(study) == [(rank, seed) for seed in (0, 1, 2) for rank in ranks]
    assert [(one.recipe, one.seed, one.state) for one in trainings_of(study)][3:5] == [
        ("rank 4", 1, "complete"),
        ("rank 8", 1, "complete"),
    ]


def test_a_training_that_fails_is_said_and_the_others_go_on(tmp_path: Path):
    spec, study = a_study(tmp_path)
    assert len(worked(study, failing="rank 8")) == 9
    queue_again(study, Silence(4))
    assert [one.error for one in trainings_of(study) if one.recipe == "rank 8"] == ["it diverges"] * 3
    assert {one.state for one in trainings_of(study) if one.recipe != "rank 8"} == {"complete"}
    with (seen := Console(width=60, file=io.StringIO())).capture() as shown:
        seen.print(suite.suite_table(spec, study))
    first, head, *rows = [line.split() for line in shown.get().splitlines()]
    assert " ".join(first) == "weighted_total_loss: 9/9 trainings, 3 failed"
    assert " ".join(head) == "recipe seed 0 seed 1 seed 2"
    assert rows[:2] == [["rank", "4", "(baseline)", "0.5000", "0.5100", "0.5200"], ["rank", "8", "failed", "failed", "failed"]]


def test_a_metric_that_the_experiments_do_not_measure_is_refused_before_anything_is_trained(tmp_path: Path):
    spec, experiments = load_suite(written(tmp_path, metric="dino_similarity", compare=["lpips"]), {})
    with pytest.raises(InputError) as caught:
        check_suite(spec, experiments)
    assert [problem.split(" is not measured")[0] for problem in caught.value.problems] == [
        "metric: 'dino_similarity'",
        "compare: 'lpips'",
    ]
    check_suite(*load_suite(written(tmp_path), {}))


def test_an_alpha_that_stands_still_while_recipes_differ_in_rank_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("WARNING", logger="fashion_ml"):
        check_suite(*load_suite(written(tmp_path), {}))  # alpha follows
        assert "network.alpha" not in caplog.text
        check_suite(*load_suite(written(tmp_path, settings={"alpha": 4}), {}))
    assert "network.alpha: is fixed at 4 while network.rank is compared" in caplog.text


def test_recipes_with_data_of_their_own_are_compared_by_references_that_are_given(tmp_path: Path):
    recipes = {"a": {}, "b": {"settings": {"data.train_data_dir": "photos"}}}
    load_suite(written(tmp_path, recipes=recipes, grid=None, settings={"evaluation.references": "references"}), {})


def test_a_study_goes_on_with_more_seeds_and_refuses_others_and_other_recipes(tmp_path: Path):
    spec, study = a_study(tmp_path)
    refuse_other_seeds(study, spec, anew=True)
    worked(study)
    longer, _ = a_study(tmp_path, seeds=[0, 1, 2, 7])
    refuse_other_seeds(study, longer, anew=True)
    assert worked(study) == [("rank 4", 7), ("rank 8", 7), ("rank 16", 7)]
    other, _ = load_suite(written(tmp_path, seeds=[0, 2, 1]), {})
    with pytest.raises(InputError, match=r"seeds: the suite 'test' was begun with \[0, 1, 2, 7\]; begin the list with these"):
        refuse_other_seeds(study, other, anew=True)
    with pytest.raises(
        InputError,
        match=r"was begun with another .* \(recipes were rank 4, rank 8, rank 16 and are rank 4, rank 8\)",
    ):
        a_study(tmp_path, grid={"network.rank": [4, 8]})


def test_a_seed_is_added_for_what_is_not_decided_and_for_the_baseline_until_there_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """rank 16 is decided with three seeds, rank 4 with four, in a suite that may have six."""
    spec, study = a_study(tmp_path, baseline="rank 8", max_seeds=6)
    asked = []

    def undecided(spec: Any, study: Any, run: Any) -> list[str]:
        seeds = len({one.seed for one in trainings_of(study)})
        asked.append(seeds)
        return {3: ["rank 4"], 4: []}[seeds]

    monkeypatch.setattr(suite_looks, "undecided", undecided)
    made = worked(study, more=lambda: add_seeds(spec, study, None))  # type: ignore[arg-type]
    assert made[9:] == [("rank 4", 3), ("rank 8", 3)]
    assert asked == [3, 4]
    assert all(len(trials) == 1 for trials in by_slot(study).values())


def test_no_seed_is_added_beyond_the_most_nor_while_trainings_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(suite_looks, "undecided", lambda *_: ["rank 4", "rank 16"])
    spec, study = a_study(tmp_path, max_seeds=4)
    assert add_seeds(spec, study, None)  # type: ignore[arg-type]
    assert len(study.trials) == 9  # they have not been trained yet
    assert {seed for _, seed in worked(study, more=lambda: add_seeds(spec, study, None))} == {0, 1, 2, 3}  # type: ignore[arg-type]
    plain, other = a_study(tmp_path, name="plain")
    assert len(worked(other, more=lambda: add_seeds(plain, other, None))) == 9  # type: ignore[arg-type]


def test_two_that_add_a_seed_at_once_train_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(suite_looks, "undecided", lambda *_: ["rank 4"])
    spec, study = a_study(tmp_path, max_seeds=4, baseline="rank 8")
    worked(study)
    add_seeds(spec, study, None)  # type: ignore[arg-type]
    for slot in (9, 10):  # what another worker that read the study before did
        study.enqueue_trial({}, user_attrs={"slot": slot, "recipe": {9: "rank 4", 10: "rank 8"}[slot], "seed": 3})
    assert worked(study) == [("rank 4", 3), ("rank 8", 3)]
    assert len(trainings_of(study)) == 11


def test_a_training_has_its_recipes_base_its_seed_and_a_run_below_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec, study = a_study(tmp_path)
    given: list[Any] = []

    def run_training(*arguments: Any) -> dict[str, Any]:
        given.append(arguments[:-1])
        (tmp_path / "facts").mkdir(exist_ok=True)
        evaluation = {"run_id": "e", "metrics": {"weighted_total_loss": {"mean": 0.25}}}
        return {"training_seconds": 1.0, "trained_parameters": 10, "evaluation": evaluation}

    monkeypatch.setattr(trial_module, "run_training", run_training)
    made: list[Any] = []

    def child(name: str, tags: Any) -> Any:
        made.append((name, dict(tags)))
        return SimpleNamespace(run_id=f"run of {name}")

    runs = {name: SimpleNamespace(run_id=name, experiment_id="0", child=child) for name in spec.all_recipes()}
    names = file_names(list(spec.all_recipes()))
    bases = {name: tmp_path / f"{names[name]}.yaml" for name in names}
    runner = suite.SuiteRunner(spec, bases, tmp_path / "trainings", runs, "the suite's run")  # type: ignore[arg-type]
    study.optimize(runner, n_trials=1)
    ((trainer, base, settings, folder, run_id, _),) = given
    assert (trainer, base.name, settings) == ("lora", "00_rank_4.yaml", {"training.seed": "0"})
    assert folder == tmp_path / "trainings" / "00_rank_4" / "seed_0"
    assert (run_id, made[0][1]["recipe_name"], made[0][1]["training_seed"]) == ("run of rank 4, seed 0", "rank 4", "0")
    first = trainings_of(study)[0]
    assert (first.run_id, first.evaluation, first.value) == ("run of rank 4, seed 0", "e", 0.25)


def test_a_metric_that_an_evaluation_does_not_have_fails_the_training_and_says_what_there_is(tmp_path: Path):
    spec, study = a_study(tmp_path, metric="lpips")
    runner = suite.SuiteRunner(spec, {}, tmp_path, {}, "")
    evaluation = {"run_id": "e", "metrics": {"weighted_total_loss": {"mean": 0.25}}}
    runner.train = lambda *_: {"training_seconds": 1.0, "trained_parameters": 1, "evaluation": evaluation}  # type: ignore[method-assign]
    study.optimize(runner, n_trials=1, catch=(TrialError,))
    assert trainings_of(study)[0].error.startswith("metric: 'lpips' was not measured; there are ")


def test_the_time_is_that_of_what_is_left_at_the_pace_so_far(tmp_path: Path):
    spec, experiments = load_suite(written(tmp_path), {})
    plan, url = plan_of_suite(spec, experiments), f"sqlite:///{tmp_path / 'study.db'}"
    assert time_known(plan, url) == "Time: not known before a training has ended"
    assert not (tmp_path / "study.db").exists()
    _, study = a_study(tmp_path)

    def train(trial: optuna.Trial) -> float:
        trial.set_user_attr(PROCESS_SECONDS, 90.0)
        return 0.5

    study.optimize(train, n_trials=3)
    assert time_known(plan, url) == "Time: 1 min 30 s a training, so about 9 min of one worker for the 6 that are left"


def test_the_workers_of_a_suite_are_its_own():
    assert worker_command("suite", Path("x.yaml"), 3, None)[2:] == [
        "fashion_ml",
        "suite-worker",
        "x.yaml",
        "--worker",
        "3",
    ]


def test_files_of_recipes_are_called_so_that_every_file_system_takes_them():
    assert list(file_names(["rank 4", "a/b: c", "蕾絲"]).values()) == ["00_rank_4", "01_a_b_c", "02__"]
    assert os.sep not in "".join(file_names(["../x"]).values())
