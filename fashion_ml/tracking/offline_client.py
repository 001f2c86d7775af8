"""An MLflow client without a store: what is logged goes to a spool alone, and what is asked is answered from it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from time import time as clock
from typing import Any

from fashion_ml.runtime.console import say
from fashion_ml.tracking.known_runs import PARENT_TAG, KnownRuns, Points
from fashion_ml.tracking.sender import KEY_TAG, PENDING
from fashion_ml.tracking.spool import LOG, Operation, Spool, last_operations, read_operations, read_position
from fashion_ml.tracking.spooled_client import FOLDER, SpooledClient

ENDED = "its process ended without ending the run"


def pending_id() -> str:
    """A new id for a run that the store has not given one yet."""
    return f"pending-{uuid.uuid4().hex}"


def is_pending(run_id: str) -> bool:
    """Whether an id is that of a run that was made without a store, and has not been sent."""
    return PENDING.fullmatch(run_id) is not None


class OfflineClient(SpooledClient):
    """What a training uses of `MlflowClient`, on the spool in a run's folder."""

    def __init__(self, folder: Path):
        self.direct = None
        self.spool = Spool(folder / FOLDER, None, say, "")
        self.known = KnownRuns(operations(folder), self.spool.names)

    def write(self, operation: Operation) -> None:
        """Append an operation, and know it."""
        super().write(operation)
        self.known.take(operation)

    def close(self, seconds: float) -> bool:
        """End; True, for nothing was to be sent."""
        self.spool.close(0)
        return True

    def create_root(self, run_id: str, name: str, tags: dict[str, str], experiment: dict[str, Any]) -> None:
        """Note the run that all others here are below; `experiment` says where it is to go when it is sent."""
        self._create(run_id, name, tags, experiment)

    def create_run(self, experiment_id: str, run_name: str, tags: dict[str, str]) -> Any:
        """As `MlflowClient.create_run`, with a pending id; the experiment is that of the run above it."""
        run_id = pending_id()
        self._create(run_id, run_name, tags, {})
        return self.known[run_id].as_run()

    def _create(self, run_id: str, name: str, tags: dict[str, str], more: dict[str, Any]) -> None:
        start, tags = int(clock() * 1000), {**tags, KEY_TAG: run_id}
        self.write({"do": "create", "run": run_id, "experiment": "", "name": name, "tags": tags, "start": start, **more})

    def log_artifact(self, run_id: str, path: str, folder: str | None = None) -> None:
        """As `MlflowClient.log_artifact`. What is logged below the training is kept as it is now: a later evaluation writes the same files."""
        if PARENT_TAG in self.known[run_id].tags:
            kept = self.spool.folder / "files" / run_id / (folder or "") / Path(path).name
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.unlink(missing_ok=True)
            try:
                os.link(path, kept)  # files are replaced as a whole, so that the link stays what it is
            except OSError:  # another disk, or one without links
                shutil.copyfile(path, kept)
            path = str(kept)
        super().log_artifact(run_id, path, folder)

    def update_run(self, run_id: str, status: str, name: str | None = None) -> None:
        """As `MlflowClient.update_run`, of a run that goes on."""
        self.write({"do": "begin", "run": run_id})

    def delete_tag(self, run_id: str, key: str) -> None:
        """As `MlflowClient.delete_tag`."""
        self.write({"do": "untag", "run": run_id, "key": key})

    def delete_run(self, run_id: str) -> None:
        """As `MlflowClient.delete_run`."""
        self.write({"do": "delete", "run": run_id})

    def get_run(self, run_id: str) -> Any:
        """As `MlflowClient.get_run`."""
        from mlflow.exceptions import MlflowException

        if run_id not in self.known:
            raise MlflowException.invalid_parameter_value(f"no run {run_id}")
        return self.known[run_id].as_run()

    def get_metric_history(self, run_id: str, key: str) -> list[Any]:
        """As `MlflowClient.get_metric_history`."""
        from mlflow.entities import Metric

        points = self.known[run_id].metrics.get(key, Points()).by_step()
        return [Metric(key, value, time, step) for step, (value, time) in points.items()]

    def list_artifacts(self, run_id: str, path: str) -> list[Any]:
        """As `MlflowClient.list_artifacts`, of the folder `images`."""
        from mlflow.entities import FileInfo

        return [FileInfo(f"images/{name}", False, 0) for name in self.known[run_id].pictures]

    def below(self, run_id: str) -> list[Any]:
        """The runs below a run, newest first."""
        return [run.as_run() for run in self.known.below(run_id)]


def operations(folder: Path) -> Iterator[Operation]:
    """What the spool of a run's folder holds, sent or not. InputError where a line before the last is damaged."""
    path = folder / FOLDER / LOG
    return read_operations(path) if path.is_file() else iter(())


def root_of(folder: Path) -> Operation | None:
    """The making of the run that a folder's spool begins with; None where its run was made by a store."""
    first = next(operations(folder), None)
    return first if first and first["do"] == "create" else None


def has_ended(folder: Path, run_id: str) -> bool:
    """Whether the spool of a folder holds the end of its run, behind the last time that it began."""
    names = read_position(folder / FOLDER)[1]
    own = {run_id, *(pending for pending, real in names.items() if real == run_id)}
    for operation in last_operations(folder / FOLDER / LOG):  # newest first
        if operation["run"] in own and operation["do"] in ("begin", "end"):
            return bool(operation["do"] == "end")
    known = KnownRuns(operations(folder), names)
    return run_id in known and known[run_id].status not in ("", "RUNNING")


def end_what_is_left(folder: Path, run_id: str, *, finished: bool) -> bool:
    """End the runs of a folder whose process is gone and whose end its spool does not hold: the training, `run_id`, as FINISHED where its
    files say so, those that were made here as KILLED; whether there were any.

    InputError while it is still written.
    """
    client = OfflineClient(folder)
    try:
        known = client.known
        left = [run.run_id for run in known.runs.values() if run.status == "RUNNING" and not run.deleted]
        root = known[run_id]
        if finished and root.status != "FINISHED" and root.run_id not in left:
            left.append(root.run_id)
        for one in left:
            if finished and one == root.run_id:
                client.set_terminated(one, "FINISHED")
            else:
                client.set_tag(one, "error", ENDED)
                client.set_terminated(one, "KILLED")
        return bool(left)
    finally:
        client.close(0)
