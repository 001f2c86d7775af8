"""Whatever stands in a setting, what is refused is told by that setting's own path, or by one that it goes together with, in a short line."""

from __future__ import annotations

from typing import Any

import pytest

from fashion_ml.config import LoraExperiment, StarganExperiment, checked, settings_of
from fashion_ml.errors import InputError

JUNK: list[Any] = [
    {"a": 1},
    [[]],
    ["a", {}],
    -(10**30),
    10**30,
    10**5000,
    float("nan"),
    float("inf"),
    "\0",
    "x" * 100_000,
    True,
    None,
]
SETTINGS = [
    *((LoraExperiment, {"data": {"train_data_dir": "embedded"}}, one.path) for one in settings_of(LoraExperiment)),
    *((StarganExperiment, {}, one.path) for one in settings_of(StarganExperiment)),
]


@pytest.mark.parametrize(("kind", "base", "path"), SETTINGS, ids=[f"{kind.__name__} {path}" for kind, _, path in SETTINGS])
def test_what_is_refused_names_its_setting(kind: Any, base: dict[str, Any], path: str):
    *sections, key = path.split(".")
    for value in JUNK:
        tree = {name: dict(below) for name, below in base.items()}
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
        try:
            checked(tree, kind)
        except InputError as error:
            for line in error.problems:
                assert len(line) < 1200, line[:200]
                assert key in line or sections[-1:] == ["weights"], line[:200]
