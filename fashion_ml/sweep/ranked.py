"""Which trials of a study are the best: those that ended and break no constraint, one of each slot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fashion_ml.runtime.language import tr
from fashion_ml.sweep.study import trials_of

if TYPE_CHECKING:
    import optuna


def complete_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that have a value, by slot."""
    return [trial for trial in trials_of(study) if trial.state.name == "COMPLETE"]


def is_feasible(trial: Any) -> bool:
    """Whether a complete trial breaks no constraint."""
    return all(value <= 0 for value in trial.constraints.values())


def ranked(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The complete trials of one objective that break no constraint, best first, of equal ones the lowest slot; none of several objectives."""
    if len(study.directions) > 1:
        return []
    sign = 1 if study.directions[0].name == "MINIMIZE" else -1
    return sorted(filter(is_feasible, complete_trials(study)), key=lambda trial: sign * trial.values[0])


def best_trials(study: optuna.Study) -> Sequence[optuna.trial.FrozenTrial]:
    """The best trial of one objective, of equal ones the lowest slot; of several objectives the Pareto front, by slot. None before there is
    one that breaks no constraint."""
    if len(study.directions) == 1:
        return ranked(study)[:1]
    there = {trial.number for trial in complete_trials(study)}
    front = study.best_trials if there else []
    return sorted((trial for trial in front if trial.number in there), key=lambda trial: trial.user_attrs["slot"])


def tied_with_best(study: optuna.Study) -> list[int]:
    """The slots of the trials that share the best value, where there are several."""
    best = ranked(study)
    slots = [int(trial.user_attrs["slot"]) for trial in best if trial.values == best[0].values]
    return slots if len(slots) > 1 else []


def tie_line(tied: Sequence[int]) -> str:
    """`3 trials tie (0, 2, 5): the first is taken`; empty where none do."""
    return (
        tr("{count} trials tie ({names}): the first is taken", count=len(tied), names=", ".join(map(str, tied))) if tied else ""
    )
