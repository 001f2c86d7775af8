"""The study of a suite: a slot for each recipe and seed, and what became of each."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import SuiteSpec, suite_experiments, suite_spec
from fashion_ml.errors import InputError
from fashion_ml.runs.settled_precision import settled_among
from fashion_ml.runtime.duration import duration
from fashion_ml.runtime.language import tr
from fashion_ml.sweep.objectives import row_of, why_not
from fashion_ml.sweep.plan import Plan, Slot
from fashion_ml.sweep.study import ERROR, TRAINING_RUN, by_slot, open_planned, trials_of
from fashion_ml.sweep.trial import EVALUATIONS, PROCESS_SECONDS

if TYPE_CHECKING:
    import optuna

RECIPE, SEED = "recipe", "seed"
"""User attributes of a trial."""
_RECIPE_RUNS, _SEEDS = "recipe_runs", "seeds"


@dataclass(frozen=True)
class SuiteTraining:
    """One recipe trained with one seed."""

    recipe: str
    seed: int
    state: str
    """`waiting`, `running`, `complete` or `fail`."""
    run_id: str
    """Of its training run; empty before it has one."""
    evaluation: str
    """The run of its evaluation; empty before it has one."""
    value: float | None
    """Of the primary metric."""
    seconds: float
    """How long its processes have run, evaluation included."""
    error: str
    """Why it does not work; empty where it does."""


def read_suite(path: Path) -> tuple[SuiteSpec, dict[str, Any]]:
    """A suite and the experiment of each recipe, by name. InputError with every problem at once, metrics that cannot rank among them."""
    spec = suite_spec(path, {})
    problems, experiments = wrong_metrics(spec), {}
    try:
        experiments = suite_experiments(spec, path, settled_among)
    except InputError as error:
        problems = [*error.problems, *problems]
    if problems:
        raise InputError(problems)
    return spec, experiments


def wrong_metrics(spec: SuiteSpec) -> list[str]:
    """What is wrong with the metric that decides, and with those beside it."""
    problems = [tr("metric: {why}", why=why) for why in [_why_not_compared(spec.metric, spec.trainer)] if why]
    return problems + [tr("compare: {why}", why=why) for name in spec.compare if (why := _why_not_compared(name, spec.trainer))]


def _why_not_compared(name: str, trainer: str) -> str:
    """Why recipes cannot be compared by a metric; empty where they can."""
    row = row_of(name.removeprefix("latent_"))
    if why := why_not(name, trainer):
        return why
    if row is None or row.of_sets is not None or row.setting == "prompts":
        return tr(
            "{name!r} is not measured reference by reference, so no interval can be made; take weighted_total_loss", name=name
        )
    return "" if row.better else tr("of {name!r} neither more nor less is better; take weighted_total_loss", name=name)


def plan_of_suite(spec: SuiteSpec, experiments: Mapping[str, Any]) -> Plan:
    """The study of a suite: slots seed by seed, so that recipes advance together."""
    row = row_of(spec.metric.removeprefix("latent_"))
    direction = "maximize" if row is not None and row.better == "higher" else "minimize"
    parts = {"metric": spec.metric}
    return Plan(spec, [direction], slots_of(spec, spec.seeds), parts, experiments, tr("experiment, recipe or metric"))


def slots_of(spec: SuiteSpec, seeds: Sequence[int], recipes: Sequence[str] | None = None) -> dict[int, Slot]:
    """The slots of some seeds, of all recipes or of some: the number of a recipe and seed stays, whichever others are wanted."""
    names, every = list(spec.all_recipes()), spec.every_seed()
    return {
        every.index(seed) * len(names) + names.index(name): Slot(attributes={RECIPE: name, SEED: seed})
        for seed in seeds
        for name in names
        if recipes is None or name in recipes
    }


def slots_there(study: optuna.Study, spec: SuiteSpec) -> dict[int, Slot]:
    """The slots that the study has beyond those of the suite's seeds, and may keep: seeds that were added."""
    first, last = (len(seeds) * len(spec.all_recipes()) for seeds in (spec.seeds, spec.every_seed()))
    kept = {number: trials[0].user_attrs for number, trials in by_slot(study).items() if first <= number < last}
    kept = {number: had for number, had in kept.items() if had[SEED] == spec.every_seed()[number // len(spec.all_recipes())]}
    return {number: Slot(attributes={RECIPE: had[RECIPE], SEED: had[SEED]}) for number, had in kept.items()}


def open_suite(spec: SuiteSpec, experiments: Mapping[str, Any], url: str, *, create: bool) -> optuna.Study:
    """The study of a suite in a storage. InputError as of `open_planned`, and when it was begun with other seeds."""
    from fashion_ml.sweep.suite_judged import note_older

    study = open_planned(plan_of_suite(spec, experiments), url, create=create)
    note_older(study, spec, study.user_attrs.get(_SEEDS, ()))
    refuse_other_seeds(study, spec, anew=create)
    return study


def refuse_other_seeds(study: optuna.Study, spec: SuiteSpec, *, anew: bool) -> None:
    """InputError when the study was begun with seeds that these do not go on with; else they are noted.

    With `anew` those that no training has begun with may be others.
    """
    before, now = list(study.user_attrs.get(_SEEDS, [])), list(spec.every_seed())
    held = before[: _begun(study, before)] if anew else before
    shared = min(len(held), len(now))
    if held[:shared] != now[:shared]:
        raise InputError(
            tr(
                "seeds: the suite {name!r} was begun with {held}; begin the list with these, or give this suite another name",
                name=spec.name,
                held=held,
            )
        )
    if before[: len(now)] != now:
        study.set_user_attr(_SEEDS, now)


def _begun(study: optuna.Study, seeds: Sequence[int]) -> int:
    """How many of the noted seeds there are up to the last that a training has begun with."""
    begun = {one[-1].user_attrs[SEED] for one in by_slot(study).values() if any(trial.state.name != "WAITING" for trial in one)}
    return max((number for number, seed in enumerate(seeds, 1) if seed in begun), default=0)


def trainings_of(study: optuna.Study) -> list[SuiteTraining]:
    """Every training that is wanted, seed by seed."""
    found = []
    for trial in trials_of(study):
        had = trial.user_attrs
        found.append(
            SuiteTraining(
                recipe=had[RECIPE],
                seed=had[SEED],
                state=trial.state.name.lower(),
                run_id=str(had.get(f"{TRAINING_RUN}{had[SEED]}", "")),
                evaluation=next(iter(had.get(EVALUATIONS, [])), ""),
                value=trial.value if trial.state.name == "COMPLETE" else None,
                seconds=float(had.get(PROCESS_SECONDS, 0.0)),
                error=str(had.get(ERROR, "")),
            )
        )
    return found


def recipe_runs_of(study: optuna.Study) -> dict[str, str]:
    """The run of each recipe, by name, as far as there is one."""
    return dict(json.loads(study.user_attrs.get(_RECIPE_RUNS, "{}")))


def set_recipe_run(study: optuna.Study, name: str, run_id: str) -> None:
    """Note the run of a recipe."""
    study.set_user_attr(_RECIPE_RUNS, json.dumps({**recipe_runs_of(study), name: run_id}))


def file_names(recipes: Sequence[str]) -> dict[str, str]:
    """What the files of each recipe are called: its number, and its name as far as every file system takes it."""
    return {name: f"{number:02d}_{re.sub(r'[^A-Za-z0-9.-]+', '_', name)[:40]}" for number, name in enumerate(recipes)}


def time_known(plan: Plan, url: str) -> str:
    """How long what is left of a suite takes one worker, by its trainings that have ended; that it is not known before one has."""
    try:
        trainings = trainings_of(open_planned(plan, url, create=False))
    except InputError:  # it was not begun
        trainings = []
    seconds = [one.seconds for one in trainings if one.state == "complete"]
    if not seconds:
        return tr("Time: not known before a training has ended")
    left, each = max(len(plan.slots), len(trainings)) - len(seconds), sum(seconds) / len(seconds)
    return tr(
        "Time: {duration} a training, so about {duration_2} of one worker for the {left} that are left",
        duration=duration(each),
        duration_2=duration(left * each),
        left=left,
    )
