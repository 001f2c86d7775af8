"""What a study is gone on with is what it was begun with; a newer version alone does not end an unfinished one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fashion_ml.config import load_experiment, load_suite
from fashion_ml.config.lora import LoraExperiment
from fashion_ml.errors import InputError
from fashion_ml.sweep.plan import Plan
from fashion_ml.sweep.same_study import difference, noted
from fashion_ml.sweep.study import open_planned
from fashion_ml.sweep.suite_study import plan_of_suite
from tests.unit.sweep.test_study import a_study

EMBEDDED = Path(__file__).parents[3] / "experiments/lora/embedded.yaml"


def plan(**settings: str) -> Plan:
    overrides = {name.replace("__", "."): value for name, value in settings.items()}
    experiment = load_experiment(EMBEDDED, overrides, LoraExperiment)
    return Plan(None, ["minimize"], {}, {"metric": "weighted_total_loss"}, {"plain": experiment}, "experiment")  # type: ignore[arg-type]


def edited(change: Callable[[dict[str, Any]], object]) -> str:
    tree = json.loads(noted(plan()))
    change(tree["experiments"]["plain"])
    return json.dumps(tree)


def test_the_same_settings_go_on():
    assert difference(plan(), noted(plan())) == ""


def test_another_value_is_named_with_both():
    assert difference(plan(network__rank="4"), noted(plan(network__rank="5"))) == "plain: network.rank was 5 and is 4"
    given, none = plan(loss__min_snr_gamma="3"), plan(loss__min_snr_gamma="null")
    assert difference(none, noted(given)) == "plain: loss.min_snr_gamma was 3.0 and is None"
    assert difference(given, noted(none)) == "plain: loss.min_snr_gamma was None and is 3.0"


def test_a_setting_that_the_older_version_did_not_have_goes_on_with_its_default_alone():
    older = edited(lambda settings: settings.pop("evaluation.precision"))
    assert difference(plan(), older) == ""
    assert difference(plan(evaluation__precision="bf16"), older) == "plain: evaluation.precision was not given and is bf16"


@pytest.mark.parametrize("path", ["training__mixed_precision", "evaluation__precision"])
def test_auto_is_what_it_is_on_this_machine_and_no_other_precision(path: str):
    """There is no GPU: float32."""
    auto, plain, half = (plan(**{path: value}) for value in ("auto", "no", "bf16"))
    assert difference(auto, noted(plain)) == difference(plain, noted(auto)) == ""
    name = path.replace("__", ".")
    assert difference(auto, noted(half)) == f"plain: {name} was bf16 and is auto"
    assert difference(half, noted(auto)) == f"plain: {name} was auto and is bf16"


def test_a_setting_that_there_is_no_more_may_be_gone():
    assert difference(plan(), edited(lambda settings: settings.update({"training.gone": "3"}))) == ""


@pytest.mark.parametrize("subset", ["data.subsets.0.image_dir", "data.subsets.1.num_repeats"])
def test_a_folder_that_is_no_more_among_the_subsets_is_a_difference(subset: str):
    before = edited(lambda settings: settings.update({subset: "a"}))
    assert difference(plan(), before) == f"plain: {subset} was a and is not given"


def test_parts_and_recipes_are_compared_too():
    one = plan()
    other = Plan(one.spec, one.directions, {}, {"metric": "visual_loss"}, one.experiments, one.shared)
    assert difference(other, noted(one)) == 'metric was "weighted_total_loss" and is "visual_loss"'
    more = Plan(one.spec, one.directions, {}, one.parts, {**one.experiments, "more": one.experiments["plain"]}, one.shared)
    assert difference(more, noted(one)) == "recipes were plain and are plain, more"


def test_a_suite_of_a_sweeps_name_in_one_storage_is_told_what_is_there(tmp_path: Path):
    spec, _ = a_study(tmp_path, trials=1)
    tree = {
        "name": spec.name,
        "trainer": "lora",
        "experiment": str(EMBEDDED),
        "grid": {"network.rank": [2, 4]},
    }
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    suite, experiments = load_suite(tmp_path / "suite.yaml", {})
    with pytest.raises(
        InputError, match=r"name: 'test' is a sweep in '.*', where a name is one study; give this suite another"
    ):
        open_planned(plan_of_suite(suite, experiments), f"sqlite:///{tmp_path / 'study.db'}", create=True)
