from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest

from fashion_ml.config import (
    SHORT_NAMES,
    STARGAN_SHORT_NAMES,
    Evaluation,
    LoraExperiment,
    StarganExperiment,
    SuiteSpec,
    SweepSpec,
    checked,
    load_config,
    settings_of,
    short_names,
)
from fashion_ml.config.base import Names, Section
from fashion_ml.config.stargan import GanEvaluation
from fashion_ml.config.sweep import Dimension, Objective
from fashion_ml.errors import InputError


def pinned(name: str) -> dict[str, str]:
    """Short name -> setting, one a line, as the command line of 0.1 took them."""
    lines = Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("names", "file"), [(SHORT_NAMES, "lora_names.txt"), (STARGAN_SHORT_NAMES, "stargan_names.txt")], ids=["lora", "stargan"]
)
def test_every_name_that_was_ever_accepted_still_means_its_setting_and_no_other_is_short(names: dict[str, str], file: str):
    assert names == pinned(file)


def test_two_settings_that_claim_one_name_are_an_error_that_names_both():
    class Left(Section):
        size: int = 1

    class Right(Section):
        width: Annotated[int, Names("size")] = 1

    class Both(Section):
        left: Left = Left()
        right: Right = Right()

    with pytest.raises(ValueError, match=r"'size' would mean left\.size and right\.width"):
        short_names(Both)


@pytest.mark.parametrize(
    "kind",
    [LoraExperiment, StarganExperiment, SweepSpec, Evaluation, GanEvaluation, Dimension, Objective],
    ids=lambda kind: kind.__name__,
)
def test_every_setting_says_what_it_does_in_a_sentence(kind: type[Section]):
    assert [one.path for one in settings_of(kind) if len(one.help) < 8 or not one.help.endswith(".")] == []


def test_range_choices_and_default_are_told_as_the_command_line_takes_them():
    told = {one.path: (one.accepts, one.default) for one in settings_of(LoraExperiment)}
    assert told["network.rank"] == ("int >= 1, <= 4096", "32")
    assert told["network.alpha"] == ("number > 0", "")
    assert told["optimizer.learning_rate"] == ("number > 0", "5e-5")
    assert told["data.validation_split"] == ("number >= 0, < 1", "0")
    assert told["training.mixed_precision"] == ("auto, no, fp16 or bf16", "no")
    assert told["data.flip_aug"] == ("true or false", "false")
    assert told["evaluation.strengths"] == ("list of number >= 0, <= 4", "")
    assert told["evaluation.weights.color_loss"] == ("number >= 0", "0.2")


def test_a_value_out_of_range_is_refused_with_the_range_that_the_docs_give():
    with pytest.raises(InputError) as caught:
        load_config({"train_data_dir": "embedded"}, {"rank": 0, "flip_aug": "maybe", "evaluation.strengths": "0,9"})
    assert [problem.rpartition(" (")[2] for problem in caught.value.problems] == [
        "flip_aug: true or false)",
        "rank: int >= 1, <= 4096)",
        "strengths: list of number >= 0, <= 4)",
    ]


def test_a_setting_in_the_wrong_place_is_refused_with_where_it_belongs():
    tree = {
        "train_data_dir": "embedded",
        "training.learning_rate": 1e-3,
        "network.network_dim": 4,
        "training.cache_dir": "x",
        "rnk": 8,
    }
    with pytest.raises(InputError) as caught:
        load_config(tree)
    assert sorted(caught.value.problems) == [
        "network.network_dim: unknown key; did you mean network.rank?",
        "rnk: unknown key; did you mean rank?",
        "training.cache_dir: unknown key; did you mean data.cache_dir or evaluation.cache_dir?",
        "training.learning_rate: unknown key; did you mean optimizer.learning_rate?",
    ]


def test_an_unknown_key_in_a_list_or_mapping_of_a_sweep_is_one_line_too():
    sweep = {"name": "s", "trainer": "lora", "experiment": "e.yaml", "search_space": {"network.rank": {"type": "int", "lo": 1}}}
    with pytest.raises(InputError) as caught:
        checked({**sweep, "objectives": [{"metric": "val_loss", "direktion": "minimize"}]}, SweepSpec)
    assert caught.value.problems == [
        "search_space.network.rank.lo: unknown key; did you mean low?",
        "objectives.0.direktion: unknown key; did you mean direction?",
    ]


SAVING = ["save_every_n_epochs", "save_last_n", "save_state", "save_state_minutes"]


@pytest.mark.parametrize(
    ("kind", "free"),
    [
        (
            LoraExperiment,
            ["name", "data.cache_latents", "data.cache_dir", "training.max_train_steps", "training.max_train_epochs"]
            + [f"training.{name}" for name in (*SAVING, "compile", "save_every_n_steps", "log_every", "sample_every")]
            + ["training.sample_prompts", "training.performance_check_interval"],
        ),
        (StarganExperiment, ["name", *(f"training.{name}" for name in (*SAVING, "epochs", "compile", "grid_every_n_epochs"))]),
    ],
    ids=["lora", "stargan"],
)
def test_a_run_may_be_resumed_with_another_length_and_with_what_decides_nothing_that_is_learnt(
    kind: type[Section], free: list[str]
):
    rest = [one.path for one in settings_of(kind) if one.section in ("evaluation", "output", "tracking")]
    assert {one.path for one in settings_of(kind) if one.may_change} == {*free, *rest}


@pytest.mark.parametrize("name", ["50%_off", "a#1", "why?", " a"])
@pytest.mark.parametrize("kind", ["lora", "stargan"])
def test_a_name_of_weights_that_mlflow_would_not_give_back_is_refused(name: str, kind: str):
    with pytest.raises(InputError, match=r"output\.output_name: .* is a name that MLflow's stores do not give back"):
        load_config({"data.train_data_dir": "embedded"} if kind == "lora" else {}, {"output_name": name}, kind=kind)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", [".", "..", ".hidden", "a\x1b[31m", "a\nb", "a\u2028b"])
@pytest.mark.parametrize("kind", [LoraExperiment, StarganExperiment, SweepSpec, SuiteSpec])
def test_a_name_that_leads_out_of_its_folder_or_hides_in_it_is_refused(name: str, kind: type[Section]):
    """What is written would lie beside outputs/, for an experiment's file may be somebody else's."""
    given = {"name": name} if kind in (SweepSpec, SuiteSpec) else {"output": {"output_name": name}}
    with pytest.raises(InputError, match=r"name: .* is no name of a file here; begin it with something else than a dot"):
        checked(given, kind)


def test_a_name_may_have_letters_of_all_scripts_and_a_wide_space():
    assert (
        load_config({"data.train_data_dir": "embedded", "output_name": "新款\u3000洋裝 é"}).output.output_name
        == "新款\u3000洋裝 é"
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"optimizer_type": "AdamWScheduleFree", "ema_decay": 0.9},
            "training.ema_decay: adamwschedulefree keeps an average of its own",
        ),
        (
            {"optimizer_type": "schedulefree.RAdamScheduleFree", "ema_decay": 0.9},
            "training.ema_decay: schedulefree.RAdamScheduleFree keeps",
        ),
        (
            {"optimizer_type": "prodigyopt.Prodigy", "loraplus_lr_ratio": 4},
            "optimizer.loraplus_lr_ratio: prodigy takes one learning rate",
        ),
    ],
)
def test_what_an_optimiser_cannot_be_given_is_refused_by_its_class_too(given: dict[str, Any], says: str):
    with pytest.raises(InputError) as error:
        load_config({"train_data_dir": "embedded", **given})
    assert says in str(error.value)
