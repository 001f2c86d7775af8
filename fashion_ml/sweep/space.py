"""From a search space to the settings of one trial."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fashion_ml.config import Dimension

if TYPE_CHECKING:
    import optuna


def suggest(trial: optuna.Trial, space: Mapping[str, Dimension]) -> dict[str, Any]:
    """The settings of a trial; those whose condition does not hold are left out."""
    chosen: dict[str, Any] = {}
    for name, dimension in space.items():
        if all(chosen.get(other) in values for other, values in dimension.when.items()):
            chosen[name] = _suggest(trial, name, dimension)
    return chosen


def _suggest(trial: optuna.Trial, name: str, dimension: Dimension) -> Any:
    if dimension.choices is not None:
        return trial.suggest_categorical(name, dimension.choices)
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.type == "int":
        return trial.suggest_int(
            name, int(dimension.low), int(dimension.high), step=int(dimension.step or 1), log=dimension.log
        )
    return trial.suggest_float(name, dimension.low, dimension.high, step=dimension.step, log=dimension.log)


def grid(space: Mapping[str, Dimension]) -> list[dict[str, Any]]:
    """Every combination of a space without conditions, in which every dimension is countable."""
    values = [[(name, value) for value in _values(dimension)] for name, dimension in space.items()]
    return [dict(combination) for combination in itertools.product(*values)]


def _values(dimension: Dimension) -> list[Any]:
    if dimension.choices is not None:
        return list(dimension.choices)
    assert dimension.low is not None
    assert dimension.high is not None
    step = dimension.step or 1
    count = int((dimension.high - dimension.low) / step + 1e-9) + 1
    values = [min(round(dimension.low + index * step, 12), dimension.high) for index in range(count)]
    return [int(value) for value in values] if dimension.type == "int" else values
