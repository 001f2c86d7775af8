"""What a suite's first look was by: noted before the first result is told to anyone, so that later changes are known to be later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fashion_ml.config import SuiteSpec
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr
from fashion_ml.sweep.suite_study import SuiteTraining, trainings_of

if TYPE_CHECKING:
    import optuna

    from fashion_ml.evaluation.suite_plan import Standing, SuitePlan
    from fashion_ml.evaluation.suites import SuiteComparison

_JUDGED = "judged"
"""User attribute of a study: the plan that its first look was by."""


def compare_so_far(spec: SuiteSpec, study: optuna.Study, client: Any) -> SuiteComparison:
    """Compare the recipes by the trainings of the suite's seeds that have been measured, in the order of these, as far as its plan allows.

    Where no training has noted the plan yet (`note_first`), this does before it shows an interval. InputError when the baseline or every
    other recipe has no training that was measured.
    """
    from fashion_ml.evaluation.suites import compare_suite
    from fashion_ml.runs.compare import evaluated

    trainings = [one for one in trainings_of(study) if one.seed in spec.every_seed()]
    measured = [one for one in trainings if one.value is not None]
    there = {one.recipe for one in measured}
    if spec.against() not in there or len(there) < 2:
        raise InputError(
            tr(
                "suite: nothing of {name!r} can be compared yet; a training of {against} and of another recipe must have ended",
                name=spec.name,
                against=spec.against(),
            )
        )
    order = {seed: number for number, seed in enumerate(spec.every_seed())}
    recipes = {
        name: [
            evaluated(client, one.evaluation) for one in sorted(measured, key=lambda one: order[one.seed]) if one.recipe == name
        ]
        for name in spec.all_recipes()
    }
    now = standing(spec, trainings, judged_of(study))
    found = compare_suite(recipes, spec.against(), spec.metric, looks=looks_of(spec), compare=spec.compare, standing=now)
    if now.judged is None and found.looked:
        note_plan(study, spec)
        return replace(found, standing=replace(now, judged=now.plan))
    return found


def looks_of(spec: SuiteSpec) -> tuple[int, ...]:
    """The numbers of seeds at which the suite looks whether it is decided; empty where it adds none."""
    most = len(spec.every_seed())
    return tuple(range(len(spec.seeds), most + 1)) if most > len(spec.seeds) else ()


def plan_of(spec: SuiteSpec) -> SuitePlan:
    """What the suite's file plans now."""
    from fashion_ml.evaluation.suite_plan import SuitePlan

    return SuitePlan(spec.against(), spec.every_seed(), looks_of(spec))


def judged_of(study: optuna.Study) -> SuitePlan | None:
    """The plan that the suite's first look was by; None before one."""
    from fashion_ml.evaluation.suite_plan import SuitePlan

    noted = study.user_attrs.get(_JUDGED)
    return SuitePlan.of(noted) if noted else None


def note_first(study: optuna.Study, spec: SuiteSpec) -> None:
    """Note the plan before the first training's value is told: from then on everyone who looks at the suite's table or its runs has looked."""
    if _JUDGED not in study.user_attrs:
        note_plan(study, spec)


def note_older(study: optuna.Study, spec: SuiteSpec, seeds: Sequence[int]) -> None:
    """Note the plan of a suite that an earlier version began, which noted no more than all its `seeds`: where these are others now, something
    was changed after its results could be seen."""
    if _JUDGED in study.user_attrs or not any(one.value is not None for one in trainings_of(study)):
        return
    plan = plan_of(spec)
    kept = plan if not seeds or tuple(seeds) == plan.seeds else replace(plan, seeds=tuple(seeds), looks=())
    study.set_user_attr(_JUDGED, kept.to_dict())


def refuse_changed_plan(study: optuna.Study, spec: SuiteSpec) -> None:
    """InputError when the file's plan is another than when the first training was measured: nothing that is trained then gets a verdict."""
    now = standing(spec, [], judged_of(study))
    if now.changed and now.judged and now.plan:
        by_baseline = now.changed == "baseline"
        was, is_now = (one.baseline if by_baseline else ", ".join(one.sizes()) for one in (now.judged, now.plan))
        what = tr("the baseline") if by_baseline else tr("the numbers of seeds that it looks at")
        raise InputError(
            tr(
                "{changed}: when the suite's first training was measured, {what} had been planned as {was}, and is "
                "{is_now} now, so no verdict can come of it; set it back, or give the suite another name and seeds "
                "of its own (suite-report shows what there is)",
                changed=now.changed,
                what=what,
                was=was,
                is_now=is_now,
            )
        )


def check_plan(spec: SuiteSpec, experiments: Mapping[str, Any], url: str) -> None:
    """`refuse_changed_plan` of a suite that may not have begun, without beginning it."""
    from fashion_ml.sweep.study import open_planned
    from fashion_ml.sweep.suite_study import plan_of_suite

    try:
        study = open_planned(plan_of_suite(spec, experiments), url, create=False)
    except InputError:
        return
    refuse_changed_plan(study, spec)


def note_plan(study: optuna.Study, spec: SuiteSpec) -> None:
    """Note that the suite is looked at by the plan of its file."""
    study.set_user_attr(_JUDGED, plan_of(spec).to_dict())


def standing(spec: SuiteSpec, trainings: Sequence[SuiteTraining], judged: SuitePlan | None) -> Standing:
    """How the suite stands, by its trainings and by the plan of its first look."""
    from fashion_ml.evaluation.suite_plan import Standing

    wanted = {(name, seed) for name in spec.all_recipes() for seed in spec.seeds}
    planned = wanted | {(one.recipe, one.seed) for one in trainings if one.seed in spec.every_seed()}
    ended = {(one.recipe, one.seed) for one in trainings if one.state == "complete" or one.error} & planned
    of = {name: [one for one in trainings if one.recipe == name] for name in spec.all_recipes()}
    failed = {name: (sum(_failed(one) for one in own), len(own)) for name, own in of.items() if any(map(_failed, own))}
    return Standing(plan_of(spec), judged, len(planned), len(planned - ended), failed)


def _failed(one: SuiteTraining) -> bool:
    return bool(one.error) and one.value is None
