"""Runs that are there already: found, brought, looked at, ended."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.folder_lock import in_turn
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.process_id import is_gone
from fashion_ml.runtime.redact import without_credentials
from fashion_ml.tracking.mlflow_private import (
    artifacts_here,
    bring_artifact,
    key_and_step,
    remove_half_uploads,
    runs_page,
    view_tag,
)
from fashion_ml.tracking.offline_client import OfflineClient
from fashion_ml.tracking.run import PROCESS_TAG, TrackedRun, attach, runs_below
from fashion_ml.tracking.sender import is_temporary
from fashion_ml.tracking.store import open_tracking, store_is_there
from fashion_ml.tracking.ui_views import VIEWS, View, of_fingerprint, runs_of, tag_of

_RANKINGS = 4
"""Fingerprints of one kind of run that have a view of their own."""
_OURS = "fashion-ml-"
"""What the keys of our views begin with."""


def download(client: Any, run_id: str, artifact: str, folder: Path) -> Path:
    """Bring an artifact of a run to a local folder; InputError when the run has none of that name, or one that cannot be read."""
    try:
        return bring_artifact(client, run_id, artifact, folder)
    except Exception as error:
        reason = _why_not(error)
        if f"[Errno {errno.EACCES}]" in str(error):
            raise InputError(
                tr(
                    "run_id: artifact {artifact} of run {run_id} cannot be read ({reason}); make it readable for this user",
                    artifact=artifact,
                    run_id=run_id,
                    reason=reason,
                )
            ) from error
        raise InputError(
            tr(
                "run_id: run {run_id} has no artifact {artifact} ({reason}); choose a finished training run",
                run_id=run_id,
                artifact=artifact,
                reason=reason,
            )
        ) from error


def _why_not(error: Exception) -> str:
    """What an error says in one line; of MLflow's, whose first lines say that something failed and `##### File x #####`, the one behind."""
    told = str(error).rpartition(" #####\n")[2].strip() or type(error).__name__
    return without_credentials(told.splitlines()[0])


@contextmanager
def kept_run(folder: Path, run_id: str) -> Iterator[TrackedRun]:
    """The offline run of a folder, to log more to it. InputError while another process does."""
    client = OfflineClient(folder)
    try:
        yield TrackedRun(client, run_id, "", name=client.get_run(run_id).info.run_name)
    finally:
        client.close(0)


def finished_child(parent: TrackedRun, kind: str, step: int) -> Any:
    """The finished child run of a kind with the tag `step`, or None; None too while a spooled run's store is away."""
    wanted = {"kind": kind, "step": str(step)}
    try:
        there = runs_below(parent)
        return next((one for one in there if one.info.status == "FINISHED" and wanted.items() <= one.data.tags.items()), None)
    except Exception as error:
        if not (parent.spooled and is_temporary(error)):
            raise
        return None


def log_changed(run: TrackedRun, metrics: Mapping[str, float], step: int = 0) -> None:
    """Log to a run without a spool what the store has not as the last value of that step: told again it is no new point."""
    new = {}
    for key, value in metrics.items():
        there = [point.value for point in run.client.get_metric_history(run.run_id, key) if point.step == step]
        if not there or not (there[-1] == value or (math.isnan(there[-1]) and math.isnan(value))):
            new[key] = value
    run.log_metrics(new, step=step)


def delete_children(parent: TrackedRun) -> None:
    """Delete the runs below a run that goes on, which makes them again, and what a killed process had begun to upload to any of them."""
    below = runs_below(parent)
    for run in below:
        parent.client.delete_run(run.info.run_id)
    if not parent.spooled:  # else whoever sends does so
        for run in (parent.client.get_run(parent.run_id), *below):
            remove_half_uploads(run.info.artifact_uri)


@contextmanager
def adding_to_ended(run: TrackedRun) -> Iterator[None]:
    """For a block that logs more to a run that has ended: where its artifacts are files of this machine, such blocks of other commands wait
    for their turn, and what a killed process had begun to upload goes first."""
    info = run.client.get_run(run.run_id).info
    folder = artifacts_here(info.artifact_uri)
    if run.spooled or info.status == "RUNNING" or folder is None:
        yield
        return
    with in_turn(folder):
        remove_half_uploads(info.artifact_uri)
        yield


def running(experiment_ids: Sequence[str] = ()) -> tuple[list[Any], list[Any]]:
    """The runs that are marked RUNNING in some experiments (all by default): those whose process has ended, and the others. None without a
    store, which is not made."""
    if not store_is_there():
        return [], []
    client = open_tracking()
    ids = list(experiment_ids) or [experiment.experiment_id for experiment in client.search_experiments()]
    found: tuple[list[Any], list[Any]] = [], []
    token: str | None = ""
    while token is not None and ids:
        page = client.search_runs(ids, "attributes.status = 'RUNNING'", max_results=1000, page_token=token or None)
        for run in page:
            found[is_gone(run.data.tags.get(PROCESS_TAG, "")) is not True].append(run)
        token = page.token or None
    return found


def close_if_dead(run: TrackedRun, *, finished: bool) -> bool:
    """End a run, and those below it, whose process has ended without ending them: as FINISHED where its files say so; whether it was.

    One that is `finished` and that nobody writes to has no process, whatever machine it was on.
    """
    for child in runs_below(run):
        close_if_dead(attach(run.client, child), finished=False)
    found = run.client.get_run(run.run_id)
    dead = found.info.status == "RUNNING" and (finished or is_gone(found.data.tags.get(PROCESS_TAG, "")) is True)
    if dead and finished:
        run.client.set_terminated(run.run_id, "FINISHED")
    elif dead:
        mark_killed(run.client, run.run_id)
    return dead


def was_removed_empty(run_id: str) -> bool:
    """Whether a run was removed, and holds nothing: its process was killed before it had begun."""
    try:
        run = open_tracking().get_run(run_id)
    except Exception:  # whoever goes on with it says what is wrong
        return False
    return run.info.lifecycle_stage == "deleted" and not (run.data.params or run.data.metrics)


def mark_killed(client: Any, run_id: str) -> None:
    """End a run whose process is gone, which had not done everything."""
    client.set_tag(run_id, "error", "its process ended without ending the run")
    client.set_terminated(run_id, "KILLED")


def runs_link(experiment_id: str, base_url: str = "http://127.0.0.1:5000", view: View | None = None) -> str:
    """The page of an experiment's runs, in a ready view."""
    key, charts = (view.key, view.charts) if view else (None, False)
    return runs_page(base_url, experiment_id, key, charts=charts)


def kept_views(experiment_id: str) -> list[View]:
    """The ready views for the kinds of runs that an experiment has, put there where they are missing or old; of rankings one for each of the
    newest fingerprints."""
    client = open_tracking()
    tags = client.get_experiment(experiment_id).tags
    found = []
    for view in VIEWS:
        of_kind = f"tags.kind = '{view.kind}'"
        fingerprints = _newest_fingerprints(client, experiment_id, of_kind, view.measured_by) if view.measured_by else []
        ranked = [of_fingerprint(view, one, newest=not number) for number, one in enumerate(fingerprints)]
        if view.page == "pictures":
            found += _with_pictures(client, experiment_id, view)
        else:
            found += ranked or ([view] if client.search_runs([experiment_id], of_kind, max_results=1) else [])
    for view in found:
        if tags.get(view_tag(view.key)) != tag_of(view):
            client.set_experiment_tag(experiment_id, view_tag(view.key), tag_of(view))
    return found


def _with_pictures(client: Any, experiment_id: str, view: View) -> list[View]:
    """The view with the pictures that the newest run has that drew any, at their last step; empty without one."""
    runs = client.search_runs([experiment_id], runs_of(view), max_results=1)
    if not runs:
        return []
    items = client.list_artifacts(runs[0].info.run_id, "images")
    there = [found for item in items if (found := key_and_step(Path(item.path).name))]
    if not there:
        return []
    return [replace(view, images=tuple(sorted({key for key, _ in there})), step=max(step for _, step in there))]


def _newest_fingerprints(client: Any, experiment_id: str, of_kind: str, tag: str) -> list[str]:
    """The last few that runs have in a tag. Each is asked for by leaving out those before it: a run is 7 ms, and there may be thousands."""
    found: list[str] = []
    for _ in range(_RANKINGS):
        others = "".join(f" and tags.`{tag}` != '{one}'" for one in found)
        runs = client.search_runs([experiment_id], f"{of_kind} and tags.`{tag}` LIKE '_%'{others}", max_results=1)
        if not runs:
            break
        found.append(runs[0].data.tags[tag])
    return found


def ready_view(experiment_id: str, name: str) -> View | None:
    """The ready view that a short link names; None where the experiment has none of that name."""
    return next((view for view in kept_views(experiment_id) if short_name(view) == name), None)


def short_name(view: View) -> str:
    """What a short link calls a ready view, such as `lora`."""
    return view.key.removeprefix(_OURS)


def count_runs(experiment_ids: Sequence[str]) -> int:
    """How many runs there are in these experiments; at most 1,000 of each are counted."""
    client = open_tracking()
    return sum(len(client.search_runs([one], max_results=1000)) for one in experiment_ids)


def experiments() -> Sequence[tuple[str, str]]:
    """Id and name of each active experiment that has any runs, newest first. None without a store, which is not made."""
    if not store_is_there():
        return []
    client = open_tracking()
    found = client.search_experiments(order_by=["last_update_time DESC"])
    return [(e.experiment_id, e.name) for e in found if client.search_runs([e.experiment_id], max_results=1)]


def without_what_is_there(run: TrackedRun, values: Mapping[str, float], step: int) -> dict[str, float]:
    """Those of these values that are not their metric's latest point already, at this step: an evaluation that was killed behind its last point
    copies them again. A run that logs through a spool leaves them out by itself (`TrackedRun.skip_what_is_there`)."""
    if run.spooled and not run.offline:
        return dict(values)
    latest = {one.key: (one.step, one.value) for one in run.client.get_run(run.run_id).data.to_proto().metrics}
    return {key: value for key, value in values.items() if latest.get(key) != (step, value)}
