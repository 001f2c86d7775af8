"""Seeds that are added to a suite until it is decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fashion_ml.config import SuiteSpec
from fashion_ml.errors import InputError
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr
from fashion_ml.sweep.study import queue
from fashion_ml.sweep.suite_study import slots_of, slots_there, trainings_of

if TYPE_CHECKING:
    import optuna

    from fashion_ml.tracking.run import TrackedRun


def add_seeds(spec: SuiteSpec, study: optuna.Study, run: TrackedRun) -> bool:
    """When all trainings so far have ended, queue the next seed for every recipe that is not decided, and for the baseline.

    Whether any training waits or runs then. Several workers may ask at once: they find the same, and a slot is queued once.
    """
    there = trainings_of(study)
    if any(one.state in ("waiting", "running") for one in there):
        return True
    had = {one.seed for one in there}
    following = [seed for seed in spec.every_seed() if seed not in had]
    names = undecided(spec, study, run) if following else []
    if not names:
        return False
    wanted = [spec.against(), *names]
    say(
        tr(
            "{count} seeds decide nothing yet between {against} and {names}: seed {following} is added",
            count=len(had),
            against=spec.against(),
            names=", ".join(names),
            following=following[0],
        )
    )
    queue(study, {**slots_of(spec, spec.seeds), **slots_there(study, spec), **slots_of(spec, following[:1], wanted)})
    return True


def undecided(spec: SuiteSpec, study: optuna.Study, run: TrackedRun) -> list[str]:
    """The recipes whose difference to the baseline another seed may decide; none, and why is said, where nothing can be compared."""
    from fashion_ml.sweep.suite_judged import compare_so_far

    try:
        return list(compare_so_far(spec, study, run.client).undecided)
    except InputError as error:
        say(
            tr(
                "No seed is added to {name}, because its trainings cannot be compared: {problems}",
                name=spec.name,
                problems=error.problems[0],
            )
        )
        return []
