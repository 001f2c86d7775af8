"""What `evaluate choose` says of its winner: the gain over the base on the references of the final, and whether it is a clear one."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from fashion_ml.evaluation.choose import Candidate
from fashion_ml.runs.choose import _race, _tags

EARLY, LATE = Candidate("a.safetensors", 100, 1.0), Candidate("b.safetensors", 200, 1.0)


def raced(losses: dict[Candidate, float], base: float) -> tuple[Any, Any]:
    """A race on eight references, each 5 % harder than the one before."""

    def of(loss: float, references: Sequence[int]) -> dict[int, float]:
        return {index: loss * (1 + 0.05 * index) for index in references}

    measured: Any = SimpleNamespace(
        units=[[index] for index in range(8)],
        plan=SimpleNamespace(config=SimpleNamespace(evaluation=SimpleNamespace(images_per_reference=1))),
        metric="weighted_total_loss",
        made=0,
        score=lambda who, references: of(losses[who], references),
        score_base=lambda references: of(base, references),
    )
    return _race(list(losses), measured, 200)


def test_a_winner_of_less_loss_than_the_base_has_a_gain_above_0_and_a_worse_one_below():
    """The mean over the references is 1.175 times the first's loss."""
    assert raced({EARLY: 0.4, LATE: 0.3}, base=0.5)[1].mean == pytest.approx(1.175 * 0.2)
    assert raced({EARLY: 0.8, LATE: 0.7}, base=0.5)[1].mean == pytest.approx(1.175 * -0.2)


def test_only_settings_that_are_as_good_as_each_other_are_tagged_as_indistinguishable():
    for losses, tied, file in (({EARLY: 0.4, LATE: 0.4}, "true", EARLY.file), ({EARLY: 0.4, LATE: 0.3}, "false", LATE.file)):
        choice, _ = raced(losses, base=0.5)
        result: Any = SimpleNamespace(choice=choice, run_id="r")
        tags = _tags(result)
        assert (tags["best_measured_indistinguishable"], tags["best_measured"]) == (tied, file)
