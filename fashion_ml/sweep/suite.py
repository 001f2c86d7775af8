"""A suite: recipe x seed on the machinery of sweeps, the runs of its recipes, and a table that shows how it goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fashion_ml.config import SuiteSpec, as_overrides, differing
from fashion_ml.runs.check_inputs import check_inputs
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr
from fashion_ml.sweep.launch import Outcome, begun, ended, progress, run_workers, say_retried, study_lock, team_for
from fashion_ml.sweep.plan import study_folder
from fashion_ml.sweep.silence import Silence
from fashion_ml.sweep.study import begun_run_of, has_work, hidden, queue, queue_again, retry_failed
from fashion_ml.sweep.suite_judged import note_first, refuse_changed_plan
from fashion_ml.sweep.suite_looks import add_seeds
from fashion_ml.sweep.suite_study import (
    RECIPE,
    SEED,
    SuiteTraining,
    file_names,
    open_suite,
    plan_of_suite,
    recipe_runs_of,
    set_recipe_run,
    slots_there,
    trainings_of,
)
from fashion_ml.sweep.trial import EVALUATIONS, Training, mean_of, own_slot, trained, values_of
from fashion_ml.sweep.worker import take_trials, write_base

if TYPE_CHECKING:
    import optuna

    from fashion_ml.tracking.run import TrackedRun


class SuiteRunner:
    """Call it with an Optuna trial: it trains the trial's recipe with its seed, and returns the primary metric."""

    def __init__(
        self,
        spec: SuiteSpec,
        bases: Mapping[str, Path],
        folder: Path,
        recipe_runs: Mapping[str, TrackedRun],
        run_id: str,
    ):
        self._spec, self._bases, self._folder = spec, bases, folder
        self._recipe_runs, self._run_id = recipe_runs, run_id

    def __call__(self, trial: optuna.Trial) -> float:
        """Train and evaluate. TrialError when that cannot be done; anything else has cut the trial off, and it is queued again."""
        with own_slot(trial):
            facts = self.train(trial, trial.user_attrs[RECIPE], trial.user_attrs[SEED])
            value = mean_of([values_of(facts)], self._spec.metric, "metric")
            note_first(trial.study, self._spec)
            trial.set_user_attr(EVALUATIONS, [facts["evaluation"]["run_id"]])
            return value

    def train(self, trial: optuna.Trial, recipe: str, seed: int) -> dict[str, Any]:
        """The facts of a training of a recipe with a seed, as `trained` has them."""
        training = Training(
            trainer=self._spec.trainer,
            base_yaml=self._bases[recipe],
            settings=as_overrides({"training.seed": seed}),
            folder=self._folder / self._bases[recipe].stem / f"seed_{seed}",
            name=f"{recipe}, seed {seed}",
            tags={"suite": self._spec.name, "recipe_name": recipe, "training_seed": str(seed)},
            seed=seed,
            identity={"recipe": recipe},
        )
        return trained(trial, training, self._recipe_runs[recipe], self._run_id, None)


def run_suite(
    spec: SuiteSpec,
    experiments: Mapping[str, Any],
    spec_path: Path,
    url: str,
    *,
    workers: int | None = None,
    launcher: str = "local",
    again: bool = False,
) -> Outcome:
    """Begin the suite or go on with it, and run what remains of its trainings; the arguments are as of `run_sweep`.

    Where seeds may be added, those that are wanted by now are. InputError for what a user can mend.
    """
    with study_lock(spec):
        base = next(iter(experiments.values()))
        team = team_for(spec, base, spec_path, url, workers, launcher)
        folder, plan = study_folder(spec), plan_of_suite(spec, experiments)
        if workers != 0 and launcher == "local" and (again or has_work(plan, url)):
            check_inputs(experiments)
        study = open_suite(spec, experiments, url, create=True)
        refuse_changed_plan(study, spec)
        with begun(spec, study, base.tracking.experiment) as run, _recipe_runs(spec, experiments, study, run) as recipe_runs:
            queue(study, {**plan.slots, **slots_there(study, spec)})
            queue_again(study, Silence(4 * spec.heartbeat_seconds))
            if again:
                say_retried(retry_failed(study), tr("trainings"))
            add_seeds(spec, study, run)
            write_bases(experiments, folder)
            there = trainings_of(study)
            say(
                tr(
                    "Suite {name}: run {run_id}, {count} recipes, {count_2} trainings, {size} workers, study in {hidden}",
                    name=spec.name,
                    run_id=run.run_id,
                    count=len(experiments),
                    count_2=len(there),
                    size=team.size if team else 0,
                    hidden=hidden(url),
                )
            )
            if team and any(one.state in ("waiting", "running") for one in there):
                run_workers(team, lambda: suite_table(spec, study), lambda: _line(study))
            outcome = ended(study, run, folder)
            _say_failed(trainings_of(study))
            for name, one in recipe_runs.items():
                _log_recipe(spec, one, [each for each in trainings_of(study) if each.recipe == name])
        return outcome


def work_on_suite(
    spec: SuiteSpec, experiments: Mapping[str, Any], url: str, folder: Path, *, deadline: float | None = None
) -> None:
    """Run trainings of a suite that was begun elsewhere until none is left, and add the seeds that are wanted then.

    Nothing begins after `deadline` (`time.monotonic()`). InputError when the suite has not been begun.
    """
    from fashion_ml.tracking.run import attach_id

    study = open_suite(spec, experiments, url, create=False)
    refuse_changed_plan(study, spec)
    run = attach_id(begun_run_of(study))
    recipe_runs = {name: attach_id(run_id) for name, run_id in recipe_runs_of(study).items()}
    runner = SuiteRunner(spec, write_bases(experiments, folder), folder / "trainings", recipe_runs, run.run_id)
    take_trials(study, runner, spec.heartbeat_seconds, deadline=deadline, more=lambda: add_seeds(spec, study, run))


def write_bases(experiments: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """The experiment of each recipe as a file for its trainings, by name."""
    names = file_names(list(experiments))
    return {name: write_base(one, folder, f"{names[name]}.yaml") for name, one in experiments.items()}


def suite_table(spec: SuiteSpec, study: optuna.Study) -> Group:
    """Recipe x seed: the value of the primary metric where there is one, else how the training is; and the time that is left."""
    trainings = trainings_of(study)
    table = Table(box=None, pad_edge=False)
    table.add_column("recipe", justify="left")
    seeds = list(dict.fromkeys(one.seed for one in trainings))
    for seed in seeds:
        table.add_column(tr("seed {seed}", seed=seed), justify="right")
    cells = {(one.recipe, one.seed): _cell(one) for one in trainings}
    for name in spec.all_recipes():
        mark = " (baseline)" if name == spec.against() else ""
        table.add_row(Text(f"{name}{mark}"), *(cells.get((name, seed), "") for seed in seeds))
    return Group(Text(f"{spec.metric}: {_line(study)}"), table)


def _cell(one: SuiteTraining) -> str:
    return f"{one.value:.4f}" if one.value is not None else {"fail": "failed"}.get(one.state, one.state)


def _line(study: optuna.Study) -> str:
    return progress(study, len(trainings_of(study)), tr("trainings"))


@contextmanager
def _recipe_runs(
    spec: SuiteSpec, experiments: Mapping[str, Any], study: optuna.Study, run: TrackedRun
) -> Iterator[dict[str, TrackedRun]]:
    """A run for each recipe below the suite's, RUNNING while the suite does."""
    from fashion_ml.tracking.run import open_run, runs_below

    different, known = differing(experiments, spec.against()), recipe_runs_of(study)
    if len(known) < len(experiments):  # one may have been made by a command that was killed before it could note it
        made = {one.data.tags.get("recipe_name", ""): one.info.run_id for one in runs_below(run)}
        known = {name: run_id for name, run_id in {**made, **known}.items() if name in experiments}
    found: dict[str, TrackedRun] = {}
    with ExitStack() as stack:
        for name in experiments:
            tags = {"kind": "recipe", "algorithm": spec.trainer, "suite": spec.name, "recipe_name": name}
            tags |= {"baseline": str(name == spec.against()).lower()}
            found[name] = stack.enter_context(open_run(f"{spec.name}: {name}", tags, parent=run, resume=known.get(name, "")))
            if name not in recipe_runs_of(study):
                set_recipe_run(study, name, found[name].run_id)
            found[name].log_params({f"recipe.{key}": value for key, value in different[name].items()})
        yield found


def _log_recipe(spec: SuiteSpec, run: TrackedRun, trainings: Sequence[SuiteTraining]) -> None:
    """The mean of the primary metric over the seeds so far, at the step of how many there are."""
    values = [one.value for one in trainings if one.value is not None]
    if values:
        run.log_metrics({spec.metric: sum(values) / len(values)}, step=len(values))
    run.set_tags({"trainings.complete": str(len(values)), "trainings.failed": str(sum(bool(one.error) for one in trainings))})


def _say_failed(trainings: Sequence[SuiteTraining]) -> None:
    for one in trainings:
        if one.error:
            say(tr("{recipe}, seed {seed} failed: {error}", recipe=one.recipe, seed=one.seed, error=one.error))
