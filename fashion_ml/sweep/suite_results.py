"""What a suite has found so far: its comparison, its report, and the lines that say what came out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import SuiteSpec
from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.sweep.study import begun_run_of
from fashion_ml.sweep.suite_study import SuiteTraining, trainings_of

if TYPE_CHECKING:
    import optuna

JSON = "suite.json"


@dataclass(frozen=True)
class SuiteResults:
    """What is told of a suite."""

    lines: Sequence[str]
    facts: Mapping[str, Any]
    """For JSON."""


def write_results(spec: SuiteSpec, study: optuna.Study, folder: Path) -> SuiteResults:
    """Compare what has been trained so far, and write the report into the folder `report` and the suite's run.

    InputError when the baseline or every other recipe has no training that was measured.
    """
    from fashion_ml.tracking.run import attach_id

    trainings = trainings_of(study)
    measured = [one for one in trainings if one.value is not None]
    there = {one.recipe for one in measured}
    if spec.against() not in there or len(there) < 2:
        raise InputError(
            f"suite: nothing of {spec.name!r} can be compared yet; a training of {spec.against()} and of another recipe must have ended"
        )
    means = {name: _mean(measured, name) for name in spec.all_recipes() if name in there}
    lines = [f"{name}: {spec.metric} {value:.4f}" for name, value in means.items()]
    facts = {"metric": spec.metric, "baseline": spec.against(), "means": means}
    facts["errors"] = {f"{one.recipe}, seed {one.seed}": one.error for one in trainings if one.error}
    run = attach_id(begun_run_of(study))
    path = folder / "report" / JSON
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(facts, indent=2, allow_nan=False) + "\n")
    run.log_file(path, "report")
    run.note("\n".join(lines))
    return SuiteResults(lines, facts)


def _mean(trainings: Sequence[SuiteTraining], recipe: str) -> float:
    values = [one.value for one in trainings if one.recipe == recipe and one.value is not None]
    return sum(values) / len(values)
