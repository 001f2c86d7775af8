"""`fashion-ml sweep` and `sweep-worker`."""

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fashion_ml.cli.options import Json, Retry, check_json, counted, option, say, table, whole, write_json
from fashion_ml.runtime.language import tr

Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="Sweep YAML, such as sweeps/lora_rank_lr.yaml.")]
Storage = Annotated[str, option("--storage", help="SQLAlchemy URL, or FASHION_ML_STORAGE; else a file in outputs/sweeps.")]

Quick = Annotated[
    bool, typer.Option("--quick", help="Confirm the best settings with one seed: a look, marked as no confirmation.")
]


def sweep(
    spec: Spec,
    trials: Annotated[str, option("--trials", help="Trials in all; those of an earlier call count.")] = "",
    workers: Annotated[
        str, option("--workers", help="Trainings at once; one for each GPU when not given. 0 only queues the trials.")
    ] = "",
    storage: Storage = "",
    launcher: Annotated[str, option("--launcher", help="local, or ray: workers on the Ray cluster of RAY_ADDRESS.")] = "local",
    quick: Quick = False,
    retry_failed: Retry = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done.")] = False,
    json: Json = "",
) -> None:
    """Search settings of an experiment: begin the study of a sweep file, or go on with it."""
    check_json(json)
    from fashion_ml.config import load_sweep
    from fashion_ml.config.shipped_files import given_or_shipped
    from fashion_ml.errors import InputError

    spec = given_or_shipped(spec)
    loaded, base = load_sweep(spec, {"trials": trials}, quick=quick)
    from fashion_ml.sweep.halves import check_halves
    from fashion_ml.sweep.notes import check_base
    from fashion_ml.sweep.objectives import directions_of
    from fashion_ml.sweep.plan import storage_url
    from fashion_ml.sweep.study import check_storage

    directions_of(loaded)  # refused before anything is made
    check_base(loaded, base)
    check_halves(loaded, base)
    url, launcher = storage_url(loaded, storage), launcher or "local"
    if launcher not in ("local", "ray"):
        raise InputError(tr("--launcher: {launcher!r} is not known; give local or ray", launcher=launcher))
    count = whole(workers, "--workers") if workers else None
    check_storage(url)
    from fashion_ml.sweep.launch import run_sweep, study_lock

    if dry_run:
        with study_lock(loaded):  # says whether its folder can be written
            pass
        _say_plan(loaded, base, url)
        return
    from fashion_ml.sweep.ranked import best_trials

    with study_lock(loaded):
        outcome = run_sweep(loaded, base, spec, url, workers=count, launcher=launcher, again=retry_failed)
        begun = {"run_id": outcome.run_id, "study": loaded.name, "folder": str(outcome.folder)}
        write_json(json, begun)
        again, to_confirm = list[Any](), list[str]()
        if outcome.complete:
            again, to_confirm = report_sweep(
                loaded, outcome.study, outcome.folder, confirmed=not outcome.left, train=count != 0
            )
    best = [{"values": trial.values, "params": trial.params, **trial.user_attrs} for trial in best_trials(outcome.study)]
    counts = {"complete": outcome.complete, "pruned": outcome.pruned, "failed": outcome.failed, "left": outcome.left}
    confirmed = [one.to_dict(loaded.objectives[0].metric) for one in again]
    write_json(json, {**begun, **counts, "best": best, "confirmed": confirmed, "to_confirm": to_confirm})
    _say_outcome(loaded, outcome, counts, best)
    if outcome.failed and not outcome.complete:
        raise typer.Exit(1)


def _say_plan(loaded: Any, base: Any, url: str) -> None:
    """What would be trained."""
    from fashion_ml.runs.check_inputs import check_inputs
    from fashion_ml.sweep.study import hidden, planned

    say(
        tr(
            "Sweep {name}: {count} trials of train {trainer}, {count_2} seeds each, in {hidden}",
            name=loaded.name,
            count=len(planned(loaded)),
            trainer=loaded.trainer,
            count_2=len(loaded.seeds),
            hidden=hidden(url),
        )
    )
    rows = [[name, _range(dimension)] for name, dimension in loaded.search_space.items()]
    table([tr("setting"), tr("searched")], rows, left=2)
    check_inputs({"": base}, written=False)


def _say_outcome(spec: Any, outcome: Any, counts: dict[str, int], best: list[dict[str, Any]]) -> None:
    say(tr("Run       {run_id}", run_id=outcome.run_id))
    say(
        tr(
            "Trials    {names}",
            names=counted(counts),
        )
    )
    for trial in best:
        values = ", ".join(f"{o.metric} {v:.4f}" for o, v in zip(spec.objectives, trial["values"], strict=True))
        say(
            tr(
                "Best      {values}: {names}",
                values=values,
                names=", ".join((f"{key} {value}" for key, value in trial["params"].items())),
            )
        )
    for reason in outcome.errors:
        say(tr("Failed    {reason}", reason=reason))
    if outcome.failed:
        say(
            tr(
                "          each is its run's tag error, and in {folder}; --retry-failed trains them once more",
                folder=outcome.folder / "trials",
            )
        )


def sweep_worker(
    spec: Spec,
    storage: Storage = "",
    worker: Annotated[str, option("--worker", help="Number of this worker, for its log alone.")] = "",
    seconds: Annotated[str, option("--seconds", help="Begin no trial after so many seconds.")] = "",
) -> None:
    """Take trials from a study that was begun elsewhere, until none is left. Needs the same storage and MLFLOW_TRACKING_URI."""
    from fashion_ml.config import load_sweep
    from fashion_ml.config.shipped_files import given_or_shipped

    spec = given_or_shipped(spec)
    loaded, base = load_sweep(spec, {}, quick=True)  # a worker confirms nothing
    from fashion_ml.runs.check_inputs import CHECKED, check_inputs
    from fashion_ml.sweep.notes import check_base
    from fashion_ml.sweep.plan import storage_url, study_folder
    from fashion_ml.sweep.worker import work

    limit = whole(seconds, "--seconds") if seconds else 60 * loaded.timeout_minutes if loaded.timeout_minutes else None
    deadline = None if limit is None else time.monotonic() + limit
    check_base(loaded, base)
    say(tr("worker {value} of sweep {name}", value=worker or os.getpid(), name=loaded.name))
    if CHECKED not in os.environ:
        check_inputs({"": base})  # before every trial fails on a machine that lacks something
    work(loaded, base, storage_url(loaded, storage), study_folder(loaded), deadline=deadline)


def sweep_report(
    spec: Spec,
    storage: Storage = "",
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Train here what is left of the confirmation, once all trials are done.")
    ] = False,
    quick: Quick = False,
    json: Json = "",
) -> None:
    """Draw what a sweep has found so far, and write its best settings as an experiment, with what confirms them. Only --confirm trains."""
    check_json(json)
    from fashion_ml.config import load_sweep
    from fashion_ml.config.shipped_files import given_or_shipped

    spec = given_or_shipped(spec)
    loaded, base = load_sweep(spec, {}, quick=quick)
    from fashion_ml.sweep.plan import storage_url, study_folder
    from fashion_ml.sweep.report import to_dict
    from fashion_ml.sweep.study import open_study, trials_of
    from fashion_ml.sweep.worker import write_base

    study = open_study(loaded, base, storage_url(loaded, storage), create=False)
    write_base(base, study_folder(loaded))
    left = any(trial.state.name in ("WAITING", "RUNNING") for trial in trials_of(study))
    again, to_confirm = report_sweep(loaded, study, study_folder(loaded), confirmed=not left, train=confirm)
    facts = {"confirmed": [one.to_dict(loaded.objectives[0].metric) for one in again], "to_confirm": to_confirm}
    write_json(json, {**to_dict(loaded, study), **facts})


def report_sweep(spec: Any, study: Any, folder: Path, *, confirmed: bool, train: bool) -> tuple[list[Any], list[str]]:
    """Plots, table, best settings and, with `confirmed`, their confirmation, into the folder and the study's run.

    Returns what confirmed, and the trainings that are left: without `train` none is made.
    """
    from fashion_ml.config.sweep import QUICK
    from fashion_ml.runtime.links import refuse_links_out
    from fashion_ml.sweep.best_settings import note_confirmed
    from fashion_ml.sweep.confirm import confirm
    from fashion_ml.sweep.confirmed import Confirmation
    from fashion_ml.sweep.report import write_report
    from fashion_ml.sweep.study import begun_run_of
    from fashion_ml.tracking.run import attach_id

    refuse_links_out(folder, "SPEC")
    run = attach_id(begun_run_of(study))
    paths = write_report(spec, study, folder / "base.yaml", folder / "report", run)
    wanted = confirmed and spec.confirm.best
    outcome = confirm(spec, study, folder / "base.yaml", folder / "confirm", run, train=train) if wanted else Confirmation()
    note_confirmed(spec, study, folder / "base.yaml", folder / "report", outcome, run, ended=confirmed)
    run.flush()
    for path in paths:
        if path.suffix == ".yaml":
            say(tr("Settings  {path}", path=path))
    say(tr("Report    {folder}", folder=folder / "report"))
    for one in outcome.found:
        say(f"{tr('Quick    ') if spec.confirm.quick else tr('Confirmed')} {one.sentence(spec.objectives[0].metric)}")
    if outcome.found and spec.confirm.quick:
        say(f"          {QUICK}")
    return list(outcome.found), list(outcome.left)


def _range(dimension: Any) -> str:
    if dimension.choices is not None:
        shown = ", ".join(map(str, dimension.choices))
    else:
        shown = tr("{low:g} to {high:g}", low=dimension.low, high=dimension.high) + (
            tr(", logarithmic") if dimension.log else ""
        )
    when = tr("; ").join(
        tr("{name} in {names}", name=name, names=", ".join(map(str, values))) for name, values in dimension.when.items()
    )
    return tr("{shown} (where {when})", shown=shown, when=when) if when else shown
