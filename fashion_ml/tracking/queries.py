"""Runs that are there already: found, brought, looked at, ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.process_id import is_gone
from fashion_ml.tracking.mlflow_private import runs_page, view_tag
from fashion_ml.tracking.sender import is_temporary
from fashion_ml.tracking.spooled_client import send_rest
from fashion_ml.tracking.ui_views import VIEWS, View, of_fingerprint, tag_of

if TYPE_CHECKING:
    pass
from fashion_ml.runtime.redact import first_line
from fashion_ml.tracking.offline_client import OfflineClient
from fashion_ml.tracking.run import AWAY_SECONDS, PROCESS_TAG, TrackedRun, attach, runs_below
from fashion_ml.tracking.store import open_tracking, shown_uri, store_uri

_RANKINGS = 4
"""Fingerprints of one kind of run that have a view of their own."""


def download(client: Any, run_id: str, artifact: str, folder: Path) -> Path:
    """Bring an artifact of a run to a local folder; InputError when the run has none of that name."""
    try:
        return Path(client.download_artifacts(run_id, artifact, str(folder)))
    except Exception as error:
        raise InputError(
            f"run_id: run {run_id} has no artifact {artifact} ({first_line(error)}); choose a finished training run"
        ) from error


@contextmanager
def kept_run(folder: Path, run_id: str) -> Iterator[TrackedRun]:
    """The offline run of a folder, to log more to it. InputError while another process does."""
    client = OfflineClient(folder)
    try:
        yield TrackedRun(client, run_id, "")
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


def delete_children(parent: TrackedRun) -> None:
    """Delete the runs below a run: what goes on makes them again."""
    for run in runs_below(parent):
        parent.client.delete_run(run.info.run_id)


def running(experiment_ids: Sequence[str] = ()) -> tuple[list[Any], list[Any]]:
    """The runs that are marked RUNNING in some experiments (all by default): those whose process has ended, and the others."""
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


def close_dead_runs(experiment_ids: Sequence[str] = ()) -> int:
    """Mark the runs KILLED whose process has ended without ending them; returns how many there were."""
    dead, _ = running(experiment_ids)
    client = open_tracking()
    for run in dead:
        _mark_killed(client, run.info.run_id)
    return len(dead)


def close_if_dead(run: TrackedRun, *, finished: bool) -> bool:
    """End a run, and those below it, whose process has ended without ending them: as FINISHED where its files say so; whether it was."""
    for child in runs_below(run):
        close_if_dead(attach(run.client, child), finished=False)
    found = run.client.get_run(run.run_id)
    dead = found.info.status == "RUNNING" and is_gone(found.data.tags.get(PROCESS_TAG, "")) is True
    if dead and finished:
        run.client.set_terminated(run.run_id, "FINISHED")
    elif dead:
        _mark_killed(run.client, run.run_id)
    return dead


def finish_rest(folder: Path, run_id: str) -> None:
    """Send what the spool of a finished training still holds, and end its run: its process was killed in between.

    ConnectionError when the store does not take it now.
    """
    client = open_tracking()
    if not send_rest(folder, client, f"The tracking store {shown_uri(store_uri())}", AWAY_SECONDS):
        raise ConnectionError(f"the tracking store does not take what {folder} still holds")
    if client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, "FINISHED")


def _mark_killed(client: Any, run_id: str) -> None:
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
        runs = client.search_runs([experiment_id], f"tags.kind = '{view.kind}'", max_results=1000 if view.measured_by else 1)
        fingerprints = dict.fromkeys(one for run in runs if (one := run.data.tags.get(view.measured_by, "")))
        ranked = [of_fingerprint(view, one, newest=not number) for number, one in enumerate(fingerprints)][:_RANKINGS]
        found += ranked or ([view] if runs else [])
    for view in found:
        if tags.get(view_tag(view.key)) != tag_of(view):
            client.set_experiment_tag(experiment_id, view_tag(view.key), tag_of(view))
    return found


def experiments() -> Sequence[tuple[str, str, int]]:
    """Id, name and number of runs (at most 1,000 counted) of each active experiment that has any, newest first."""
    client = open_tracking()
    found = client.search_experiments(order_by=["last_update_time DESC"])
    counted = [(e.experiment_id, e.name, len(client.search_runs([e.experiment_id], max_results=1000))) for e in found]
    return [item for item in counted if item[2]]
