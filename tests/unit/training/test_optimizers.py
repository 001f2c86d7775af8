"""Optimisers by name and by class: what reaches their libraries, what is refused, and the weights that are kept."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import prodigyopt
import pytest
import pytorch_optimizer
import schedulefree
import torch
from transformers.optimization import Adafactor

from fashion_ml.config import Optimizer
from fashion_ml.config.lora_optimizer import OPTIMIZERS
from fashion_ml.errors import InputError
from fashion_ml.models.lora import LoraParameters, LoraSpec, add_lora
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.training.optimizers import averaged, check_optimizer, class_of, make_optimizer, small_parameters

CPU = torch.device("cpu")
ON_CPU = [one for one in OPTIMIZERS if one != "adamw8bit"]


def made(*, text: bool = False, **settings: Any) -> torch.optim.Optimizer:
    weights = [torch.nn.Parameter(torch.ones(2, 3)) for _ in range(1 + text)]
    return make_optimizer(Optimizer(**settings), LoraParameters(weights[:1], weights[1:]), CPU)


@pytest.mark.parametrize("kind", [*ON_CPU, "torch.optim.RAdam"])
def test_weight_decay_and_the_rates_reach_every_group_of_the_optimiser(kind: str):
    groups = made(text=True, optimizer_type=kind, learning_rate=0.25, text_encoder_lr=0.125, weight_decay=0.375).param_groups
    assert [(group["weight_decay"], group["lr"], group["peak"]) for group in groups] == [
        (0.375, 0.25, 0.25),
        (0.375, 0.125, 0.125),
    ]


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("adamw", torch.optim.AdamW),
        ("Lion", pytorch_optimizer.Lion),
        ("CAME", pytorch_optimizer.CAME),
        ("AdamWScheduleFree", schedulefree.AdamWScheduleFree),
        ("Prodigy", prodigyopt.Prodigy),
        ("adafactor", Adafactor),
        ("pytorch_optimizer.Adan", pytorch_optimizer.Adan),
    ],
)
def test_a_name_in_any_case_or_a_class_is_that_of_its_library(kind: str, own: type):
    assert type(made(optimizer_type=kind)) is own


@pytest.mark.parametrize("given", ["eps=1e-6 d_coef=0.5", {"eps": 1e-6, "d_coef": 0.5}, ["eps=1e-6", "d_coef=0.5"]])
def test_arguments_are_text_a_list_or_a_mapping_and_reach_the_library(given: Any):
    (group,) = made(optimizer_type="prodigy", optimizer_args=given).param_groups
    assert (group["eps"], group["d_coef"]) == (1e-6, 0.5)


def test_values_of_arguments_are_what_they_look_like():
    settings = Optimizer(optimizer_args="a=1 b=1e-3 c=true d=0.9,0.99 e=None f=word")
    assert settings.optimizer_args == {"a": 1, "b": 1e-3, "c": True, "d": (0.9, 0.99), "e": None, "f": "word"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"optimizer_type": "adan"}, "'adan' is not known; use adamw, .* or a class such as"),
        ({"optimizer_args": "eps"}, "arguments are name=value"),
        ({"optimizer_args": "betas=0.9,0.99"}, "betas is a setting of its own here; give optimizer.betas"),
        ({"optimizer_args": "lr=1"}, "give optimizer.learning_rate"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_read(settings: Mapping[str, Any], told: str):
    with pytest.raises(ValueError, match=told):
        Optimizer(**settings)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"optimizer_type": "nowhere.Adam"}, "nowhere.Adam needs nowhere, which is not installed; pip install the library"),
        ({"optimizer_type": "torch.optim.Adamm"}, "torch.optim has no 'Adamm'"),
        ({"optimizer_type": "torch.nn.Linear"}, "torch.nn.Linear is no optimiser of torch"),
        ({"optimizer_type": "os.system"}, "os.system is no optimiser of torch"),
        ({"optimizer_args": "epsilon=1e-6"}, "optimizer.optimizer_args: adamw has no 'epsilon'; it has amsgrad, "),
        ({"optimizer_type": "lion", "optimizer_args": "d_coef=2"}, "lion has no 'd_coef'; it has fixed_decay, foreach, "),
        ({"optimizer_type": "adamw8bit"}, "adamw8bit needs"),
        (
            {"optimizer_type": "torch.optim.SGD", "betas": (0.9, 0.99)},
            "optimizer.betas: torch.optim.SGD has none; leave them out",
        ),
        (
            {"optimizer_type": "came", "betas": (0.9, 0.99)},
            "optimizer.betas: came cannot step .*it has 3 betas, 0.9, 0.999, 0.9999 of its own, and 2 are given",
        ),
        (
            {"optimizer_type": "torch.optim.AdamW", "betas": (0.9, 1.0)},
            "optimizer.betas: torch.optim.AdamW cannot be made so",
        ),
        (
            {"optimizer_type": "prodigy", "loraplus_lr_ratio": 4.0},
            r"prodigy cannot step here \(Setting different lr values .*\); leave out loraplus_lr_ratio, block_lr, text_encoder_lr,",
        ),
        (
            {"optimizer_type": "pytorch_optimizer.AliG", "loraplus_lr_ratio": 4.0},
            r"AliG requires closure.*; use another, such as",
        ),
    ],
)
def test_what_a_library_does_not_take_is_one_line(settings: Mapping[str, Any], told: str):
    with pytest.raises(InputError, match=told if told.startswith("optim") else f"^optimizer.optimizer_(type|args): .*{told}"):
        check_optimizer(Optimizer(**settings), CPU)


@pytest.mark.parametrize(
    ("kind", "library", "extra"), [("prodigy", "prodigyopt", "gpu"), ("lion", "pytorch_optimizer", "optimizers")]
)
def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch, kind: str, library: str, extra: str):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        InputError, match=rf"{kind} needs {library}, which is not installed; pip install 'fashion-ml\[{extra}\]'"
    ):
        class_of(kind)


LIBRARIES = (torch.optim, pytorch_optimizer, schedulefree, prodigyopt)


def test_what_a_class_of_a_library_is_made_with_can_be_given_as_it_is():
    """Every default of every optimiser that is plain: numbers, words, None and tuples of them, of any length."""
    counted = 0
    for library in LIBRARIES:
        classes = {one for one in vars(library).values() if isinstance(one, type) and issubclass(one, torch.optim.Optimizer)}
        for own in classes - {torch.optim.Optimizer}:
            for one in inspect.signature(own).parameters.values():
                parts = one.default if isinstance(one.default, tuple) else (one.default,)
                if one.name in ("lr", "weight_decay") or not all(
                    type(each) in (bool, int, float, str, type(None)) for each in parts
                ):
                    continue
                setting = {"betas": one.default} if one.name == "betas" else {"optimizer_args": {one.name: one.default}}
                settings = Optimizer(optimizer_type=f"{library.__name__}.{own.__name__}", **setting)
                assert (settings.betas if one.name == "betas" else settings.optimizer_args[one.name]) == one.default
                counted += isinstance(one.default, tuple)
    assert counted > 60


def test_three_betas_a_none_in_a_tuple_and_a_type_of_numbers_reach_the_library():
    (came,) = made(optimizer_type="came", betas=(0.8, 0.9, 0.95)).param_groups
    assert came["betas"] == (0.8, 0.9, 0.95)
    text = Optimizer(optimizer_args="eps=None,0.002").optimizer_args
    (adafactor,) = made(optimizer_type="torch.optim.Adafactor", optimizer_args=text).param_groups
    assert adafactor["eps"] == (None, 0.002)
    rose = made(optimizer_type="pytorch_optimizer.ROSE", optimizer_args="compute_dtype=float32")
    assert torch.float32 in rose.defaults.values() or rose.param_groups[0]["compute_dtype"] == torch.float32


@pytest.mark.parametrize(
    ("settings", "groups"),
    [
        ({"loraplus_lr_ratio": 4.0, "text_encoder_lr": 0.5}, 4),
        ({"block_lr": (0, 1, 1, 0.5, 0.25, 1, 0.5, 1, 1), "loraplus_lr_ratio": 8.0}, 8),
    ],
)
def test_an_optimiser_is_tried_on_the_groups_of_a_real_lora(settings: Mapping[str, Any], groups: int):
    pipeline, given = load_pipeline("embedded"), Optimizer(learning_rate=1.0, **settings)
    spec = LoraSpec(2, 2.0, feed_forward=True, train_text_encoder=True, block_lr=given.block_lr)
    real = make_optimizer(given, add_lora(pipeline.unet, pipeline.text_encoder, spec, seed=0), CPU).param_groups
    small = make_optimizer(given, small_parameters(given, text_encoder=True), CPU).param_groups
    assert sorted(group["peak"] for group in real) == sorted(group["peak"] for group in small)
    assert len(real) == groups


@pytest.mark.parametrize("kind", [*ON_CPU, "torch.optim.RAdam", "schedulefree.RAdamScheduleFree"])
def test_each_optimiser_goes_on_from_a_state_bit_for_bit(kind: str, capsys: pytest.CaptureFixture[str]):
    check_optimizer(Optimizer(optimizer_type=kind), CPU)
    assert capsys.readouterr().out == ""


def test_an_optimiser_without_weight_decay_is_said_and_trains(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "fashion_ml")
    check_optimizer(Optimizer(optimizer_type="torch.optim.Rprop"), CPU)
    assert "optimizer.weight_decay: 0.01 does nothing, for torch.optim.Rprop has none" in caplog.text


class ForgetsOtherGroups(torch.optim.SGD):
    """Goes by a number of each group, and its state holds the first one's."""

    def __init__(self, parameters: Any, lr: float, weight_decay: float):
        super().__init__(parameters, lr=lr, weight_decay=weight_decay)
        self.rest = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Steps that grow."""
        first = self.param_groups[0]
        first["steps"] = first.get("steps", 0) + 1
        self.rest += 1
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data -= group["lr"] * (first["steps"] if group is first else self.rest) * parameter.grad


def test_what_is_forgotten_of_other_groups_than_the_first_is_noticed_where_there_are_some(monkeypatch: pytest.MonkeyPatch):
    module = ModuleType("a_library")
    module.Forgets = ForgetsOtherGroups  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_library", module)
    check_optimizer(Optimizer(optimizer_type="a_library.Forgets"), CPU)
    for more in ({"loraplus_lr_ratio": 2.0}, {"block_lr": (1.0, 0.5)}):
        with pytest.raises(InputError, match="its state does not hold all"):
            check_optimizer(Optimizer(optimizer_type="a_library.Forgets", **more), CPU)
    for part in ("text_encoder", "word"):
        with pytest.raises(InputError, match="its state does not hold all"):
            check_optimizer(Optimizer(optimizer_type="a_library.Forgets"), CPU, **{part: True})


class Forgets(torch.optim.SGD):
    """Goes by a number that its state does not hold."""

    def __init__(self, parameters: Any, lr: float, weight_decay: float):
        super().__init__(parameters, lr=lr, weight_decay=weight_decay)
        self.steps = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Steps that grow."""
        self.steps += 1
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data -= group["lr"] * self.steps * parameter.grad


def test_an_optimiser_that_would_not_go_on_exactly_is_refused_where_a_state_is_kept(monkeypatch: pytest.MonkeyPatch):
    module = ModuleType("a_library")
    module.Forgets = Forgets  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_library", module)
    settings = Optimizer(optimizer_type="a_library.Forgets")
    with pytest.raises(
        InputError, match=r"a_library.Forgets cannot go on from a state bit for bit \(its state does not hold all"
    ):
        check_optimizer(settings, CPU)
    check_optimizer(settings, CPU, resumable=False)


def test_weights_that_are_kept_are_the_averages_of_a_schedule_free_optimiser_and_training_goes_on_as_if_none_were():
    """The library's own eval() gives the averages; its train() brings the weights back but for rounding, this exactly."""
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(5, 7))
    optimizer = make_optimizer(
        Optimizer(optimizer_type="adamwschedulefree", learning_rate=0.1), LoraParameters([parameter], []), CPU
    )
    for step in range(3):
        parameter.grad = torch.randn(5, 7, generator=torch.Generator().manual_seed(step))
        optimizer.step()
    before = parameter.detach().clone()
    with averaged(optimizer, [parameter]):
        inside = parameter.detach().clone()
        with averaged(optimizer, [parameter]):
            assert torch.equal(parameter, inside)
    assert torch.equal(parameter, before)
    assert optimizer.param_groups[0]["train_mode"]
    optimizer.eval()  # type: ignore[attr-defined]
    assert torch.equal(parameter, inside)
    assert not torch.equal(inside, before)
