"""`fashion-ml suite`, `suite-worker` and `suite-report`."""

import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from fashion_ml.cli.options import Json, Retry, check_json, counted, option, say, table, whole, write_json
from fashion_ml.runtime.language import tr

Spec = Annotated[Path, typer.Argument(metavar="FILE", help="Suite YAML, such as suites/lora_rank.yaml.")]
Storage = Annotated[str, option("--storage", help="SQLAlchemy URL, or FASHION_ML_STORAGE; else a file in outputs/suites.")]


def suite(
    spec: Spec,
    workers: Annotated[
        str, option("--workers", help="Trainings at once; one for each GPU when not given. 0 only queues the trainings.")
    ] = "",
    storage: Storage = "",
    launcher: Annotated[str, option("--launcher", help="local, or ray: workers on the Ray cluster of RAY_ADDRESS.")] = "local",
    retry_failed: Retry = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done.")] = False,
    json: Json = "",
) -> None:
    """Compare recipes over training seeds: begin the suite of a file, or go on with it."""
    check_json(json)
    from fashion_ml.errors import InputError

    path, loaded, experiments = _read(spec)
    from fashion_ml.sweep.plan import storage_url
    from fashion_ml.sweep.study import check_storage

    url, launcher = storage_url(loaded, storage), launcher or "local"
    if launcher not in ("local", "ray"):
        raise InputError(tr("--launcher: {launcher!r} is not known; give local or ray", launcher=launcher))
    count = whole(workers, "--workers") if workers else None
    check_storage(url)
    _warn_of_searches(loaded.trainer, experiments)
    from fashion_ml.sweep.launch import study_lock

    if dry_run:
        from fashion_ml.runs.check_inputs import check_inputs

        with study_lock(loaded):  # says whether its folder can be written
            pass
        _say_plan(loaded, experiments, url)
        check_inputs(experiments, written=False)
        return
    from fashion_ml.sweep.suite import run_suite
    from fashion_ml.sweep.suite_study import trainings_of

    with study_lock(loaded):
        outcome = run_suite(loaded, experiments, path, url, workers=count, launcher=launcher, again=retry_failed)
        facts = {"run_id": outcome.run_id, "study": loaded.name, "folder": str(outcome.folder)}
        counts = {"complete": outcome.complete, "failed": outcome.failed, "left": outcome.left}
        write_json(json, {**facts, **counts})
        there = {one.recipe for one in trainings_of(outcome.study) if one.value is not None}
        comparable = loaded.against() in there and len(there) > 1
        if comparable:
            report_suite(loaded, outcome.study, outcome.folder, {**facts, **counts}, json, again=False)
    say(tr("Run       {run_id}", run_id=outcome.run_id))
    say(tr("Trainings {names}", names=counted(counts)))
    if outcome.failed:
        say(
            tr(
                "          each is its run's tag error, and in {folder}; --retry-failed trains them once more",
                folder=outcome.folder / "trainings",
            )
        )
    if not comparable and not outcome.left:
        _say_nothing_compared(loaded.against(), there)
        raise typer.Exit(1)


def _say_nothing_compared(baseline: str, there: Collection[str]) -> None:
    """`there` are the recipes of which something was measured."""
    if baseline in there:
        why = tr("no recipe but the baseline")
    else:
        why = tr("no training of the baseline {against}", against=baseline)
    say(tr("Nothing can be compared: {why} was measured", why=why))


def suite_worker(
    spec: Spec,
    storage: Storage = "",
    worker: Annotated[str, option("--worker", help="Number of this worker, for its log alone.")] = "",
    seconds: Annotated[str, option("--seconds", help="Begin no training after so many seconds.")] = "",
) -> None:
    """Take trainings from a suite that was begun elsewhere, until none is left. Needs the same storage and MLFLOW_TRACKING_URI."""
    _, loaded, experiments = _read(spec)
    from fashion_ml.runs.check_inputs import CHECKED, check_inputs
    from fashion_ml.sweep.plan import storage_url, study_folder
    from fashion_ml.sweep.suite import work_on_suite

    limit = whole(seconds, "--seconds") if seconds else 60 * loaded.timeout_minutes if loaded.timeout_minutes else None
    deadline = None if limit is None else time.monotonic() + limit
    say(tr("worker {value} of suite {name}", value=worker or os.getpid(), name=loaded.name))
    if CHECKED not in os.environ:
        check_inputs(experiments)  # before every training fails on a machine that lacks something
    work_on_suite(loaded, experiments, storage_url(loaded, storage), study_folder(loaded), deadline=deadline)


def suite_report(spec: Spec, storage: Storage = "", json: Json = "") -> None:
    """Compare the recipes of a suite by the trainings that have ended so far, and write its report."""
    check_json(json)
    _, loaded, experiments = _read(spec)
    from fashion_ml.sweep.plan import storage_url, study_folder
    from fashion_ml.sweep.study import begun_run_of
    from fashion_ml.sweep.suite_study import open_suite

    study = open_suite(loaded, experiments, storage_url(loaded, storage), create=False)
    report_suite(loaded, study, study_folder(loaded), {"run_id": begun_run_of(study), "study": loaded.name}, json)


def report_suite(spec: Any, study: Any, folder: Path, facts: dict[str, Any], json: str, *, again: bool = True) -> None:
    """Comparison and report, into the folder, the suite's run and `json`, and the lines that say what came out."""
    from fashion_ml.sweep.suite_results import write_results

    results = write_results(spec, study, folder, again=again)
    write_json(json, {**results.facts, **facts})
    for line in results.lines:
        say(line)
    say(tr("Report    {folder}", folder=folder / "report"))


def _read(spec: Path) -> tuple[Path, Any, dict[str, Any]]:
    """The file, its suite and the experiment of each recipe, all checked."""
    from fashion_ml.config.shipped_files import given_or_shipped
    from fashion_ml.sweep.notes import check_suite
    from fashion_ml.sweep.suite_study import read_suite

    path = given_or_shipped(spec)
    loaded, experiments = read_suite(path)
    check_suite(loaded, experiments)
    return path, loaded, experiments


def _warn_of_searches(trainer: str, experiments: dict[str, Any]) -> None:
    """A warning where `register --suite` would refuse the references, because a search has tried recipes by them; none where the store
    cannot be asked, or is not there yet."""
    from fashion_ml.deploy.searched import searched_before
    from fashion_ml.errors import InputError
    from fashion_ml.runtime.console import warn
    from fashion_ml.tracking.store import open_tracking, store_is_there

    try:
        said = searched_before(open_tracking(), trainer, experiments) if store_is_there() else ""
    except InputError:
        return  # what is wrong is said by what needs the store
    if said:
        warn(said)


def _say_plan(spec: Any, experiments: dict[str, Any], url: str) -> None:
    """What would be trained."""
    from fashion_ml.config import differing, flat
    from fashion_ml.sweep.study import hidden
    from fashion_ml.sweep.suite_judged import check_plan
    from fashion_ml.sweep.suite_study import plan_of_suite, time_known

    check_plan(spec, experiments, url)
    more = (
        tr(", up to {count} where that decides nothing", count=len(spec.every_seed()))
        if len(spec.every_seed()) > len(spec.seeds)
        else ""
    )
    number = len(experiments) * len(spec.seeds)
    say(
        tr(
            "Suite {name}: {count} recipes x seeds {names}{more}: {number} trainings of train {trainer}, "
            "compared by {metric} with {against}, in {hidden}",
            name=spec.name,
            count=len(experiments),
            names=", ".join(map(str, spec.seeds)),
            more=more,
            number=number,
            trainer=spec.trainer,
            metric=spec.metric,
            against=spec.against(),
            hidden=hidden(url),
        )
    )
    different = differing(experiments, spec.against())
    keys = list(dict.fromkeys(key for each in different.values() for key in each))
    rows = [[name, *(str(flat(one).get(key, "")) for key in keys)] for name, one in experiments.items()]
    table([tr("recipe"), *keys], rows, left=1)
    say(time_known(plan_of_suite(spec, experiments), url))
