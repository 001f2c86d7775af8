"""An MLflow client that writes through a spool: what is logged is on the disk first, and reaches the store when that answers."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from time import time as clock
from typing import Any

from fashion_ml.checkpoint import write_text
from fashion_ml.errors import InputError, without_credentials
from fashion_ml.progress import say
from fashion_ml.spool import Operation, RetryLater, Spool

FOLDER = "spool"
"""In the run's folder."""
_PENDING = re.compile(r"pending-[0-9a-f]{32}")
_KEY_TAG, _PARENT = "spool.key", "mlflow.parentRunId"
_METRICS_AT_ONCE = 1000
_TEMPORARY = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")


class SpooledClient:
    """The writing half of `MlflowClient` through a spool; everything else goes to the client itself."""

    def __init__(self, client: Any, folder: Path, where: str):
        self.direct = client
        self.spool = Spool(
            folder / FOLDER, lambda operations, names: _send(client, operations, names, folder / FOLDER), say, where
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
        self.spool.write(operation)

    def set_tag(self, run_id: str, key: str, value: Any) -> None:
        """As `MlflowClient.set_tag`."""
        self.spool.write({"do": "batch", "run": run_id, "tags": [[key, str(value)]]})

    def log_artifact(self, run_id: str, path: str, folder: str | None = None) -> None:
        """As `MlflowClient.log_artifact`; the file is read when it is sent."""
        self.spool.write({"do": "file", "run": run_id, "path": str(Path(path).absolute()), "folder": folder})

    def log_artifacts(self, run_id: str, folder: str, name: str | None = None) -> None:
        """As `MlflowClient.log_artifacts`; the files are read when they are sent."""
        self.spool.write({"do": "folder", "run": run_id, "path": str(Path(folder).absolute()), "folder": name})

    def log_text(self, run_id: str, text: str, artifact: str) -> None:
        """As `MlflowClient.log_text`."""
        self.spool.write({"do": "text", "run": run_id, "text": text, "artifact": artifact})

    def log_image(self, run_id: str, picture: Any, key: str, step: int) -> None:
        """As `MlflowClient.log_image` with a key: the two files that the UI's step slider reads, named once."""
        from mlflow.tracking.multimedia import compress_image_size

        stem = f"{key.replace('/', '~')}+step+{step}+timestamp+{int(clock() * 1000)}+{uuid.uuid4()}"
        place = self.spool.folder / "images"
        place.mkdir(exist_ok=True)
        picture.save(place / f"{stem}.png")
        compress_image_size(picture).save(place / f"{stem}+compressed.webp")
        for name in (f"{stem}.png", f"{stem}+compressed.webp"):
            self.log_artifact(run_id, str(place / name), "images")
        self.set_tag(run_id, "mlflow.loggedImages", True)

    def log_inputs(self, run_id: str, datasets: Sequence[Any]) -> None:
        """As `MlflowClient.log_inputs`."""
        plain = [{"dataset": dict(d.dataset), "tags": [[tag.key, tag.value] for tag in d.tags]} for d in datasets]
        self.spool.write({"do": "inputs", "run": run_id, "datasets": plain})

    def create_run(self, experiment_id: str, run_name: str, tags: dict[str, str]) -> Any:
        """As `MlflowClient.create_run`; while the store is away the run has a pending id, which becomes a real one when it is sent."""
        from mlflow.entities import Run, RunData, RunInfo

        pending = f"pending-{uuid.uuid4().hex}"
        start = int(clock() * 1000)
        parent = self.spool.names.get(tags.get(_PARENT, ""), tags.get(_PARENT, ""))
        if not self.spool.away and not _PENDING.fullmatch(parent):
            try:
                return self.direct.create_run(
                    experiment_id, run_name=run_name, tags={**tags, _PARENT: parent} if parent else tags
                )
            except Exception as error:
                if not is_temporary(error):
                    raise
        marked = {**tags, _KEY_TAG: pending}
        self.spool.write(
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
        self.spool.write({"do": "end", "run": run_id, "status": status, "end": int(clock() * 1000)})

    def get_run(self, run_id: str) -> Any:
        """As `MlflowClient.get_run`, with the real id where it is known by now."""
        return self.direct.get_run(self.spool.names.get(run_id, run_id))


def send_rest(folder: Path, client: Any, where: str, seconds: float) -> bool:
    """Send what the spool of a run's folder still holds, until the store has taken nothing for so many seconds; whether all was sent.

    InputError for a folder without a spool, and for one that is still being written.
    """
    if not (folder / FOLDER / "operations.jsonl").is_file():
        raise InputError(f"RUN_DIR: {str(folder)!r} holds nothing to send; give the folder of a run")
    return SpooledClient(client, folder, where).spool.close(seconds)


def waiting(folder: Path) -> int:
    """Bytes that the spool of a run's folder still holds."""
    place = folder / FOLDER
    note = place / "position.json"
    sent = json.loads(note.read_text(encoding="utf-8"))["sent"] if note.is_file() else 0
    return (place / "operations.jsonl").stat().st_size - int(sent)


def _send(client: Any, operations: Sequence[Operation], names: dict[str, str], folder: Path) -> None:
    """Send operations in order; metrics of one run together. What the store refuses for good is noted in `refused.jsonl` and left out."""
    for (do, _), group in groupby(operations, key=lambda o: (o["do"], o.get("run"))):
        together = list(group)
        if do == "batch":
            together = list(_joined(together))
        for operation in together:
            real = (
                json.loads(_PENDING.sub(lambda match: names.get(match[0], match[0]), json.dumps(operation)))
                if names
                else operation
            )
            if do == "create":
                real = operation
            try:
                _perform(client, real, names)
            except Exception as error:
                if is_temporary(error):
                    raise RetryLater(_reason(error)) from error
                _refused(folder, operation, error)


def _joined(operations: Sequence[Operation]) -> Iterator[Operation]:
    """Batches of one run, joined up to MLflow's limits; the order of tags and params stays."""
    metrics: list[Any] = []
    for operation in operations:
        metrics += operation.get("metrics", ())
        rest = {key: value for key, value in operation.items() if key != "metrics"}
        if "params" in rest or "tags" in rest:
            yield rest
    for first in range(0, len(metrics), _METRICS_AT_ONCE):
        yield {"do": "batch", "run": operations[0]["run"], "metrics": metrics[first : first + _METRICS_AT_ONCE]}


def _perform(client: Any, operation: Operation, names: dict[str, str]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    run = operation["run"]
    match operation["do"]:
        case "batch":
            client.log_batch(
                run,
                metrics=[Metric(key, value, stamp, step) for key, value, stamp, step in operation.get("metrics", ())],
                params=[Param(key, value) for key, value in operation.get("params", ())],
                tags=[RunTag(key, value) for key, value in operation.get("tags", ())],
            )
        case "file":
            client.log_artifact(run, operation["path"], operation["folder"])
        case "folder":
            client.log_artifacts(run, operation["path"], operation["folder"])
        case "text":
            client.log_text(run, operation["text"], operation["artifact"])
        case "inputs":
            datasets = [
                DatasetInput(Dataset(**d["dataset"]), [InputTag(key, value) for key, value in d["tags"]])
                for d in operation["datasets"]
            ]
            client.log_inputs(run, datasets)
        case "create":
            query = f"tags.`{_KEY_TAG}` = '{run}'"
            made = client.search_runs([operation["experiment"]], query, max_results=1)
            tags = {key: names.get(value, value) for key, value in operation["tags"].items()}
            tags[_KEY_TAG] = run
            if not made:
                found = client.create_run(
                    operation["experiment"], start_time=operation["start"], run_name=operation["name"], tags=tags
                )
                made = [found]
            names[run] = made[0].info.run_id
        case "end":
            client.set_terminated(run, operation["status"], end_time=operation["end"])


def is_temporary(error: Exception) -> bool:
    """Whether an error of the store may go away by itself: it does not answer, or says that it cannot now."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code in _TEMPORARY
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)


def _refused(folder: Path, operation: Operation, error: Exception) -> None:
    note = folder / "refused.jsonl"
    before = note.read_text(encoding="utf-8") if note.is_file() else ""
    write_text(note, before + json.dumps({"operation": operation, "why": _reason(error)}) + "\n")
    say(f"The tracking store refused {operation['do']} of run {operation['run']} ({_reason(error)}); see {note}")


def _reason(error: Exception) -> str:
    return without_credentials((str(error).strip() or type(error).__name__).splitlines()[0])[:200]
