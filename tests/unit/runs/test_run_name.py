"""Runs are called by what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fashion_ml.config import load_config
from fashion_ml.runs.run_name import comparison_name, evaluation_name, lora_name, stargan_name, told_with

GIVEN: dict[str, Any] = {"train_data_dir": "x", "rank": 8, "lr": 5e-4, "steps": 800}


def named(settings: dict[str, Any], *classes: str, folder: str = "my_photos") -> str:
    return lora_name(load_config({**GIVEN, **settings}), classes, Path(folder))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "dress r8 lr5e-4 800st"),
        ({"alpha": 8}, "dress r8 lr5e-4 800st"),
        ({"alpha": 4}, "dress r8 a4 lr5e-4 800st"),
        ({"use_dora": True, "seed": 3}, "dress DoRA r8 lr5e-4 seed 3 800st"),
        ({"algo": "lokr", "lr": 1.5e-5}, "dress LoKr r8 lr1.5e-5 800st"),
        ({"algo": "ia3"}, "dress IA3 lr5e-4 800st"),
        ({"algo": "oft"}, "dress OFT r8 lr5e-4 800st"),
        ({"optimizer_type": "prodigy", "lr": 1}, "dress r8 lr1 800st"),
        ({"block_ranks": ",".join(["4"] * 25)}, "dress ranks by block lr5e-4 800st"),
    ],
)
def test_a_lora_is_called_by_what_it_is(settings: dict[str, Any], name: str):
    assert named(settings, "dress") == name


@pytest.mark.parametrize(
    ("classes", "subject"),
    [
        (["sks_dress"], "sks dress"),
        (["dress", "hat", "dress"], "dress+hat"),
        ([], "my photos"),
        ([""], "my photos"),
        (["a long class of garments", "another long class of garments"], "my photos"),
        (["x" * 90], "x" * 40),
    ],
)
def test_what_is_trained_is_the_classes_or_else_the_folder(classes: list[str], subject: str):
    assert named({}, *classes) == f"{subject} r8 lr5e-4 800st"


def test_subsets_are_called_by_their_classes_or_folders():
    subsets = [{"image_dir": "photos/red"}, {"image_dir": "b", "class_tokens": "hat"}, {"image_dir": "c", "is_reg": True}]
    config = load_config({"data": {"subsets": subsets}, "evaluation": {"enabled": False}}, {"rank": 8, "lr": 1e-4, "steps": 5})
    assert lora_name(config, [], Path("x")) == "red+hat r8 lr1e-4 5st"


def test_a_stargan_is_called_by_its_domains():
    config = load_config({}, {"epochs": 40, "lr": 1e-4, "w_ds": 0.5, "seed": 2}, kind="stargan")
    assert stargan_name(config, ["coat", "dress"], Path("latents")) == "coat+dress w_ds0.5 lr1e-4 seed 2 40ep"
    assert stargan_name(config, [f"a long domain {i}" for i in range(9)], Path("latents_512")).startswith("latents 512 w_ds")


def test_what_measures_a_run_is_called_by_it():
    assert evaluation_name("dress r8", "step 5") == "evaluation of dress r8, step 5"
    assert evaluation_name("", "step 5") == "evaluation, step 5"
    assert comparison_name(["a", "b"]) == "comparison of a with b"
    assert comparison_name(["a", "b", "c"]) == "comparison of a with 2 others"


def test_a_comparison_tells_what_a_name_does_not_say():
    assert told_with("dress r8", "dress r8", {"rank": "8"}) == "dress r8"
    assert told_with("mine", "dress r8", {"rank": "8"}) == "mine, dress r8"
    assert told_with("old", "", {"rank": "8"}) == "old, rank 8"
