"""What a suite has found so far: its comparison, its report, and the lines that say what came out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import SuiteSpec
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import language
from fashion_ml.runtime.provenance import installed_versions
from fashion_ml.sweep.study import begun_run_of
from fashion_ml.sweep.suite_study import SuiteTraining, trainings_of

if TYPE_CHECKING:
    import optuna

    from fashion_ml.evaluation.suites import SuiteComparison

_REPORTED = "reported"
"""User attribute of a study: what its report was made of."""


@dataclass(frozen=True)
class SuiteResults:
    """What is told of a suite."""

    lines: Sequence[str]
    facts: Mapping[str, Any]
    """For JSON."""


def compare_trainings(spec: SuiteSpec, trainings: Sequence[SuiteTraining], client: Any) -> SuiteComparison:
    """Compare the recipes by the trainings that have been measured, in the order of the suite's seeds.

    InputError when the baseline or every other recipe has no training that was measured.
    """
    from fashion_ml.evaluation.suites import compare_suite
    from fashion_ml.runs.compare import evaluated

    measured = [one for one in trainings if one.value is not None]
    there = {one.recipe for one in measured}
    if spec.against() not in there or len(there) < 2:
        raise InputError(
            f"suite: nothing of {spec.name!r} can be compared yet; a training of {spec.against()} and of another recipe must have ended"
        )
    order = {seed: number for number, seed in enumerate(spec.every_seed())}
    recipes = {
        name: [
            evaluated(client, one.evaluation)
            for one in sorted(measured, key=lambda one: order.get(one.seed, len(order)))
            if one.recipe == name
        ]
        for name in spec.all_recipes()
    }
    return compare_suite(recipes, spec.against(), spec.metric, looks=looks_of(spec), compare=spec.compare)


def looks_of(spec: SuiteSpec) -> tuple[int, ...]:
    """The numbers of seeds at which the suite looks whether it is decided; empty where it adds none."""
    most = len(spec.every_seed())
    return tuple(range(len(spec.seeds), most + 1)) if most > len(spec.seeds) else ()


def write_results(spec: SuiteSpec, study: optuna.Study, folder: Path, *, again: bool = True) -> SuiteResults:
    """Compare what has been trained so far, and write the report into the folder `report` and the suite's run.

    Without `again` a report that is there already, of the same trainings, is told as it is. InputError when the baseline or every other recipe
    has no training that was measured.
    """
    from fashion_ml.sweep.suite_report import JSON, PAGE, write_suite_report
    from fashion_ml.tracking.run import attach_id

    trainings, place, wanted = trainings_of(study), folder / "report", language()
    key = _made_of(spec, trainings, wanted)
    done = not again and study.user_attrs.get(_REPORTED) == key and all((place / name).is_file() for name in (JSON, PAGE))
    if not done:
        run = attach_id(begun_run_of(study))
        write_suite_report(spec, compare_trainings(spec, trainings, run.client), trainings, place, run)
        run.flush()
        study.set_user_attr(_REPORTED, key)
    facts = json.loads((place / JSON).read_text(encoding="utf-8"))
    return SuiteResults(facts["sentences"][wanted], facts)


def _made_of(spec: SuiteSpec, trainings: Sequence[SuiteTraining], wanted: str) -> str:
    """What a report is made of, in a few digits."""
    asked = spec.model_dump(mode="json", include={"baseline", "metric", "compare", "seeds", "max_seeds"})
    parts = [asked, wanted, installed_versions(), [asdict(one) for one in trainings]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
