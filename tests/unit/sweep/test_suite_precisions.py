"""Recipes of a suite that say auto are compared by what that is on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fashion_ml.errors import InputError
from fashion_ml.sweep.suite_study import read_suite
from tests.unit.sweep.test_suite import written


def test_recipes_that_differ_in_auto_alone_train_the_same_where_it_is_that_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipes = {"plain": {"settings": {}}, "asked": {"settings": {"mixed_precision": "auto"}}}
    path = written(tmp_path, grid=None, recipes=recipes)
    with pytest.raises(InputError, match=r"^recipes\.asked: trains just what plain does"):
        read_suite(path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    _, experiments = read_suite(path)
    assert experiments["asked"].training.mixed_precision == "auto"  # another machine has what it has


def test_recipes_are_measured_alike_where_auto_is_the_precision_of_the_others(tmp_path: Path):
    def of(precision: str) -> Path:
        settings = {"plain": {"rank": 4}, "other": {"rank": 8, "evaluation.precision": precision}}
        return written(tmp_path, grid=None, recipes={name: {"settings": each} for name, each in settings.items()})

    assert len(read_suite(of("no"))[1]) == 2
    with pytest.raises(InputError, match=r"^recipes\.other: evaluation\.precision is bf16 and that of plain is no"):
        read_suite(of("bf16"))
