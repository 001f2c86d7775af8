"""An MLflow client that writes through a spool: what is logged is on the disk first, and reaches the store when that answers."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from time import time as clock
from typing import Any

from filelock import FileLock, Timeout

from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr
from fashion_ml.tracking.mlflow_private import IMAGES_TAG, image_files
from fashion_ml.tracking.refused import FILE as REFUSED
from fashion_ml.tracking.sender import KEY_TAG, PENDING, Sender, is_temporary
from fashion_ml.tracking.spool import LOG, Operation, Spool, own_fault, read_position

FOLDER = "spool"
"""In the run's folder."""
_PARENT = "mlflow.parentRunId"


class SpooledClient:
    """The writing half of `MlflowClient` through a spool; everything else goes to the client itself."""

    def __init__(self, client: Any, folder: Path, where: str, root: str):
        self.direct = client
        self.sender = Sender(client, folder / FOLDER, root)
        self.spool = Spool(folder / FOLDER, self.sender, say, where)

    def write(self, operation: Operation) -> None:
        """Append an operation."""
        self.spool.write(operation)

    def close(self, seconds: float) -> bool:
        """Send what waits and once more what was refused, and end; whether the store has all of it. InputError, which says so, where the
        folder does not take what belongs into it: that is no fault of the store."""
        try:
            done = self.spool.flush(seconds)
            fault = self.spool.fault
            if done:
                done = self.sender.again(self.spool.names)
                self.spool.remember()
        except (OSError, InputError) as error:
            done, fault = False, own_fault(error)
        finally:
            self.spool.close(0)
        if fault and not done:
            raise self._not_taken(fault)
        return done

    def _not_taken(self, why: str) -> InputError:
        folder = self.spool.folder
        return InputError(
            tr(
                "RUN_DIR: {folder!r} cannot be written ({why}), which is no fault of the tracking store; mend that, and it is sent "
                "next time",
                folder=str(folder),
                why=why,
            )
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.direct, name)

    def log_batch(self, run_id: str, metrics: Sequence[Any] = (), params: Sequence[Any] = (), tags: Sequence[Any] = ()) -> None:
        """As `MlflowClient.log_batch`."""
        operation: Operation = {"do": "batch", "run": run_id}
        if metrics:
            operation["metrics"] = [[m.key, m.value, m.timestamp, m.step] for m in metrics]
        if params:
            operation["params"] = [[p.key, p.value] for p in params]
        if tags:
            operation["tags"] = [[t.key, t.value] for t in tags]
        self.write(operation)

    def set_tag(self, run_id: str, key: str, value: Any) -> None:
        """As `MlflowClient.set_tag`."""
        self.write({"do": "batch", "run": run_id, "tags": [[key, str(value)]]})

    def log_artifact(self, run_id: str, path: str, folder: str | None = None) -> None:
        """As `MlflowClient.log_artifact`; the file is read when it is sent."""
        self.write({"do": "file", "run": run_id, "path": self._place(path), "folder": folder})

    def log_artifacts(self, run_id: str, folder: str, name: str | None = None) -> None:
        """As `MlflowClient.log_artifacts`; the files are read when they are sent."""
        self.write({"do": "folder", "run": run_id, "path": self._place(folder), "folder": name})

    def _place(self, path: str) -> str:
        """A path as it is noted: from the run's folder, for that may be moved before it is sent; what is elsewhere is copied into it."""
        whole, folder = Path(path).absolute(), self.spool.folder.absolute().parent
        if not whole.is_relative_to(folder):
            kept = self.spool.folder.absolute() / "files" / uuid.uuid4().hex / whole.name
            kept.parent.mkdir(parents=True)
            shutil.copytree(whole, kept) if whole.is_dir() else shutil.copyfile(whole, kept)
            whole = kept
        return whole.relative_to(folder).as_posix()

    def log_text(self, run_id: str, text: str, artifact: str) -> None:
        """As `MlflowClient.log_text`."""
        self.write({"do": "text", "run": run_id, "text": text, "artifact": artifact})

    def log_image(self, run_id: str, picture: Any, key: str, step: int) -> None:
        """As `MlflowClient.log_image` with a key: the two files that the UI's step slider reads, named once."""
        place, files = self.spool.folder / "images" / uuid.uuid4().hex, image_files(picture, key, step, int(clock() * 1000))
        for name, image in files.items():
            with atomic_path(place / name) as temporary:
                image.save(temporary, Path(name).suffix.removeprefix("."))
        # one operation: a picture without its small one would count as there, and not be drawn again
        self.write({"do": "folder", "run": run_id, "path": self._place(str(place)), "folder": "images", "names": list(files)})
        self.set_tag(run_id, IMAGES_TAG, True)

    def log_inputs(self, run_id: str, datasets: Sequence[Any]) -> None:
        """As `MlflowClient.log_inputs`."""
        plain = [{"dataset": dict(d.dataset), "tags": [[tag.key, tag.value] for tag in d.tags]} for d in datasets]
        self.write({"do": "inputs", "run": run_id, "datasets": plain})

    def create_run(self, experiment_id: str, run_name: str, tags: dict[str, str]) -> Any:
        """As `MlflowClient.create_run`; while the store is away the run has a pending id, which becomes a real one when it is sent."""
        from mlflow.entities import Run, RunData, RunInfo

        pending = f"pending-{uuid.uuid4().hex}"
        start = int(clock() * 1000)
        parent = self.spool.names.get(tags.get(_PARENT, ""), tags.get(_PARENT, ""))
        if not self.spool.away and not PENDING.fullmatch(parent):
            try:
                return self.direct.create_run(
                    experiment_id, run_name=run_name, tags={**tags, _PARENT: parent} if parent else tags
                )
            except Exception as error:
                if not is_temporary(error):
                    raise
        marked = {**tags, KEY_TAG: pending}
        self.write(
            {"do": "create", "run": pending, "experiment": experiment_id, "name": run_name, "tags": marked, "start": start}
        )
        info = RunInfo(
            run_id=pending,
            experiment_id=experiment_id,
            user_id="",
            status="RUNNING",
            start_time=start,
            end_time=None,
            lifecycle_stage="active",
            run_name=run_name,
        )
        return Run(info, RunData())

    def set_terminated(self, run_id: str, status: str = "FINISHED") -> None:
        """As `MlflowClient.set_terminated`."""
        self.write({"do": "end", "run": run_id, "status": status, "end": int(clock() * 1000)})

    def update_run(self, run_id: str, status: str, name: str | None = None) -> None:
        """As `MlflowClient.update_run`, at once; that a run goes on is noted too, so that an end before it is known as an earlier one."""
        self.direct.update_run(run_id, status=status, name=name)
        self.write({"do": "begin", "run": run_id})

    def get_run(self, run_id: str) -> Any:
        """As `MlflowClient.get_run`, with the real id where it is known by now."""
        return self.direct.get_run(self.spool.names.get(run_id, run_id))


def send_rest(folder: Path, run_id: str, client: Any, where: str, seconds: float) -> bool:
    """Send what the spool of a run's folder still holds, until the store has taken nothing for so many seconds; whether all was sent.

    What the store has refused is tried once more. InputError for a folder without a spool, and for one that is still being written.
    """
    if not (folder / FOLDER / LOG).is_file():
        raise InputError(tr("RUN_DIR: {folder!r} holds nothing to send; give the folder of a run", folder=str(folder)))
    return SpooledClient(client, folder, where, run_id).close(seconds)


def waiting(folder: Path) -> int:
    """Bytes that the spool of a run's folder still holds, and those that the store has refused."""
    place = folder / FOLDER
    left = max((place / LOG).stat().st_size - read_position(place)[0], 0)
    return left + ((place / REFUSED).stat().st_size if (place / REFUSED).is_file() else 0)


def is_written(folder: Path) -> bool:
    """Whether a process has the spool of a run's folder open."""
    lock = FileLock(folder / FOLDER / "lock", timeout=0)
    try:
        with lock:
            return False
    except Timeout:
        return True
    except OSError:  # it is no lock, which whoever sends says
        return False
