"""What a suite has found so far: its comparison, its report, and the lines that say what came out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import SuiteSpec
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import of_its_shape, parsed_mapping
from fashion_ml.runtime.language import language, tr
from fashion_ml.runtime.links import refuse_links_out
from fashion_ml.runtime.provenance import installed_versions
from fashion_ml.sweep.study import begun_run_of
from fashion_ml.sweep.suite_judged import compare_so_far, judged_of
from fashion_ml.sweep.suite_study import SuiteTraining, trainings_of

if TYPE_CHECKING:
    import optuna

    from fashion_ml.evaluation.suite_plan import SuitePlan

_REPORTED = "reported"
"""User attribute of a study: what its report was made of."""


@dataclass(frozen=True)
class SuiteResults:
    """What is told of a suite."""

    lines: Sequence[str]
    facts: Mapping[str, Any]
    """For JSON."""


def write_results(spec: SuiteSpec, study: optuna.Study, folder: Path, *, again: bool = True) -> SuiteResults:
    """Compare what has been trained so far, and write the report into the folder `report` and the suite's run.

    Without `again` a report that is there already, of the same trainings, is told as it is. InputError when the baseline or every other recipe
    has no training that was measured.
    """
    from fashion_ml.sweep.suite_report import JSON, PAGE, write_suite_report
    from fashion_ml.tracking.run import attach_id

    refuse_links_out(folder, "suite")
    trainings, place, wanted = trainings_of(study), folder / "report", language()
    key = _made_of(spec, trainings, wanted, judged_of(study))
    done = not again and study.user_attrs.get(_REPORTED) == key and all((place / name).is_file() for name in (JSON, PAGE))
    if not done:
        run = attach_id(begun_run_of(study))
        found = compare_so_far(spec, study, run.client)  # before anything is told, what it was looked at by is noted
        write_suite_report(spec, found, trainings, place, run)
        run.flush()
        study.set_user_attr(_REPORTED, _made_of(spec, trainings, wanted, judged_of(study)))
    with of_its_shape("suite", place / JSON, tr("remove it, and it is written again")):
        facts = parsed_mapping(read_whole(place / JSON))
        return SuiteResults(facts["sentences"][wanted], facts)


def _made_of(spec: SuiteSpec, trainings: Sequence[SuiteTraining], wanted: str, judged: SuitePlan | None) -> str:
    """What a report is made of, in a few digits."""
    asked = spec.model_dump(mode="json", include={"baseline", "metric", "compare", "seeds", "max_seeds"})
    parts = [asked, wanted, installed_versions(), judged.to_dict() if judged else None, [asdict(one) for one in trainings]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
