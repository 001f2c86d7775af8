"""The end of a run, one procedure that may be done as often as one likes: what its folder still holds is sent, and the store is told how it
ended. A training does it itself; where it was killed first, `--resume`, `sync` and `doctor --close-runs` do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.runs.run_folder import RunFolder, read_run_folder, write_run_folder
from fashion_ml.runtime.atomic_files import remove_leftovers
from fashion_ml.runtime.console import say
from fashion_ml.runtime.folder_lock import folder_lock, is_locked
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.problem_line import without_field
from fashion_ml.tracking.environment import experiment_for
from fashion_ml.tracking.known_runs import PARENT_TAG
from fashion_ml.tracking.offline_client import end_what_is_left, has_ended, is_pending, root_of
from fashion_ml.tracking.offline_send import first_operation, make_in_store
from fashion_ml.tracking.queries import close_if_dead, mark_killed, running
from fashion_ml.tracking.run import AWAY_SECONDS, FOLDER_TAG, attach, runs_below
from fashion_ml.tracking.spooled_client import FOLDER, send_rest, waiting
from fashion_ml.tracking.store import find_run, open_tracking, shown_uri, store_is_there, store_uri
from fashion_ml.tracking.store_checks import asked, with_whole_path


@dataclass(frozen=True)
class Ended:
    """What became of one run's folder."""

    folder: Path
    run_id: str
    sent: bool
    """Whether everything has reached the store."""
    ended: bool
    """Whether the run, whose process had been killed, was ended now: FINISHED where it had done everything, else KILLED."""


def lacks_end(note: RunFolder) -> bool:
    """Whether a folder says that all was done, and its outbox still holds something, or not the run's end: its process was killed there."""
    if not note.finished or not note.run_id or not (note.path / FOLDER).is_dir():
        return False
    return not has_ended(note.path, note.run_id) or (not is_pending(note.run_id) and bool(waiting(note.path)))


def come_to_end(note: RunFolder, seconds: float = AWAY_SECONDS) -> Ended:
    """Send what the folder of a run still holds to the store that the run is in, until that has taken nothing for so many seconds, and end the
    run where its process is gone; an offline run is made there first.

    FINISHED where the folder says that all was done, else KILLED. InputError while another process writes there, for a run of another store,
    and for a store that cannot be used.
    """
    with folder_lock(note.path, "RUN_DIR"):
        remove_leftovers(note.path)
        return _come_to_end(note, shown_uri(store_uri()), seconds)


def _come_to_end(note: RunFolder, store: str, seconds: float) -> Ended:
    _check(note, store)
    ended = False
    if (note.path / FOLDER).is_dir() and (note.finished or root_of(note.path) is not None):
        ended = end_what_is_left(note.path, note.run_id, finished=note.finished)
    here, client = into_store(note), open_tracking()
    sent = send_rest(here.path, here.run_id, client, tr("The tracking store {store}", store=store), seconds)
    if sent:
        run = attach(client, find_run(client, here.run_id))
        ended |= close_if_dead(run, finished=here.finished)
    return Ended(here.path, here.run_id, sent, ended)


def end_offline(note: RunFolder) -> None:
    """The same for a run that stays offline: its end is noted beside what it has logged."""
    with folder_lock(note.path, "resume"):
        remove_leftovers(note.path)
        end_what_is_left(note.path, note.run_id, finished=note.finished)


def finish_rest(folder: Path) -> None:
    """Bring a finished training to its end. ConnectionError when the store does not take it now."""
    note = read_run_folder(folder)
    if note is not None and not come_to_end(note).sent:
        raise ConnectionError(f"the tracking store does not take what {folder} still holds")


def place_of(note: RunFolder) -> str:
    """The store of a run; a relative path, as earlier versions noted it, is seen from the working folder."""
    return with_whole_path(note.tracking_uri, Path.cwd())


def _check(note: RunFolder, store: str) -> None:
    folder = note.path
    if not note.run_id:
        raise InputError(tr("RUN_DIR: {folder!r} was trained without tracking; there is nothing to send", folder=str(folder)))
    if note.tracking_uri and place_of(note) != store:
        raise InputError(
            tr(
                "RUN_DIR: the run of {folder!r} is in {tracking_uri}; set MLFLOW_TRACKING_URI to that",
                folder=str(folder),
                tracking_uri=note.tracking_uri,
            )
        )
    if is_pending(note.run_id):
        first_operation(folder)


def into_store(note: RunFolder) -> RunFolder:
    """The note of a run that is in the store: as it is, or, where the run was offline so far, with the id that it has there from now on.

    The store is noted before the run is made, so that a sync that was cut off does not go on in another one.
    """
    if not is_pending(note.run_id):
        return note
    store = shown_uri(store_uri())
    _check(note, store)
    client = open_tracking()
    experiment = experiment_for(client, first_operation(note.path))
    write_run_folder(replace(note, tracking_uri=store))
    with asked(store_uri()):
        run_id = make_in_store(note.path, client, experiment)
    known = replace(note, tracking_uri=store, run_id=run_id)
    write_run_folder(known)
    return known


def folders_in_store(experiment_ids: Sequence[str] = ()) -> Iterator[tuple[Any, RunFolder]]:
    """The runs whose process ended without ending them and whose folder is on this machine: each with what that says."""
    dead, _ = running(experiment_ids)
    for run in dead:
        note = folder_of(run)
        if note is not None:
            yield run, note


def folder_of(run: Any) -> RunFolder | None:
    """What the folder of an MLflow run says, where its tag, or a folder below outputs/, names it; None without one."""
    told = run.data.tags.get(FOLDER_TAG, "")
    below = sorted(Path("outputs").glob(f"*/{run.info.run_id}"))
    noted = [Path(told), Path(told) / run.info.run_id] if told else []  # the folder above is told until the run has begun
    for place in [*noted, *(one.absolute() for one in below)]:
        try:
            note = read_run_folder(place)
        except InputError:
            continue
        if note is not None and note.run_id == run.info.run_id:
            return note
    return None


def remove_not_begun(experiment: str) -> int:
    """Remove the runs of an experiment that were killed before they had begun; returns how many."""
    found = open_tracking().get_experiment_by_name(experiment)
    return remove_empty([found.experiment_id]) if found else 0


def remove_empty(experiment_ids: Sequence[str], among: Callable[[Any], bool] | None = None) -> int:
    """Remove the runs of trainings, sweeps and suites that were killed before anything was written: nothing is in them, and no folder, nor any
    run below them, is theirs. Returns how many. With `among` those for which it holds are looked at instead, as of a study's own trainings."""
    is_one = among or _may_be_removed
    return _removed([run for run in running(experiment_ids)[0] if not (run.data.params or run.data.metrics) and is_one(run)])


def _may_be_removed(run: Any) -> bool:
    tags = run.data.tags
    if PARENT_TAG in tags:  # a sweep's or suite's, which answers for it
        return False
    if tags.get("kind", "") in ("sweep", "suite"):
        return not runs_below(attach(open_tracking(), run))
    return tags.get("kind", "").startswith("train_") and FOLDER_TAG in tags and folder_of(run) is None


def _removed(runs: Sequence[Any]) -> int:
    """Remove runs in which nothing is, and say so; returns how many."""
    client = open_tracking()
    for run in runs:
        client.delete_run(run.info.run_id)
    if runs:
        say(
            tr(
                "Runs that were killed before they had begun are removed, nothing was in them: {names}",
                names=", ".join(run.info.run_id for run in runs),
            )
        )
    return len(runs)


def close_dead_runs(experiment_ids: Sequence[str] = ()) -> int:
    """End the runs whose process has ended without ending them; returns how many.

    One whose folder is here comes to its end by that: all of it is sent, and it is FINISHED where it had done everything. One whose folder
    cannot be sent now stays, which is said. Runs with nothing in them are removed; all others are KILLED. Without a store there are
    none, and none is made.
    """
    if not store_is_there():
        return 0
    empty = remove_empty(experiment_ids)
    kept, before = set[str](), {run.info.run_id for run in running(experiment_ids)[0]}
    for run, note in list(folders_in_store(experiment_ids)):
        try:
            if come_to_end(note).sent:
                continue
            why = tr("the tracking store does not take all of it now")
        except InputError as error:
            why = without_field(error.problems[0])
        if note.finished or is_locked(note.path):  # whoever works there has only not said so yet
            kept.add(run.info.run_id)
            say(tr("Run {run_id} stays as it is: {why}", run_id=run.info.run_id, why=why))
    client, left = open_tracking(), running(experiment_ids)[0]
    for run in left:
        if not _is_below(run, kept):
            mark_killed(client, run.info.run_id)
    return empty + len(before - kept)


def _is_below(run: Any, kept: set[str]) -> bool:
    return run.info.run_id in kept or run.data.tags.get("mlflow.parentRunId", "") in kept
