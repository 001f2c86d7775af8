"""Performing spooled operations on an MLflow store, each idempotent."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from fashion_ml.runtime.console import say
from fashion_ml.runtime.input_file import check_regular, files_below
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.redact import first_line
from fashion_ml.tracking.dividing import Divider
from fashion_ml.tracking.known_runs import PARENT_TAG
from fashion_ml.tracking.mlflow_private import remove_half_uploads
from fashion_ml.tracking.operation_shape import is_shallow, parted, what_is_wrong
from fashion_ml.tracking.refused import Entry, Refused
from fashion_ml.tracking.set_aside import Aside
from fashion_ml.tracking.spool import Operation, RetryLater

PENDING = re.compile(r"pending-[0-9a-f]{32}")
"""The id of a run that was made while the store was away."""
KEY_TAG = "spool.key"
_METRICS_AT_ONCE = 1000
_TEMPORARY = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
_TRIES = 6
"""So often an operation that fails while the store answers other questions is tried before those behind it go first."""
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What a store answers when it is asked for a run that it does not have, or by what is no run's id."""
_FILES = ("file", "folder", "text")
"""Operations that upload something."""


class _NotTaken(Exception):  # noqa: N818 (it is the store's answer)
    """Some metrics are refused."""


class _Unreadable(Exception):  # noqa: N818 (it is the disk's answer)
    """A file that is to be sent cannot be read here."""


class Sender:
    """Sends the operations of the spool in `folder` to a store: those of the run `root` and of runs below it, with files below the run's
    folder. What is none of that is set aside: a spool's file may come from anywhere."""

    def __init__(self, client: Any, folder: Path, root: str):
        self._client, self._folder, self._below = client, folder, folder.absolute().parent
        self._failures, self._aside = Counter[str](), Aside(folder, say)
        self._root, self._own, self._others = root, {root}, set[str]()
        self._refused, self._divider = Refused(folder, say), Divider()
        self._without, self._tidied = dict[str, str](), set[str]()

    def __call__(self, operations: Sequence[Operation], names: dict[str, str]) -> None:
        """Send in order, metrics of one run together; RetryLater where the store does not answer.

        What the store refuses is kept in `refused.jsonl`, and the rest goes on: also what fails again and again while the store answers
        otherwise, such as a file for a full artifact store.
        """
        self._without.clear()
        fitting = [one for one in map(self._fitting, operations) if one is not None]
        for (do, _), group in groupby(fitting, key=lambda o: (o["do"], o["run"])):
            together = list(group)
            for operation in _joined(together) if do == "batch" else together:
                for entry in self._attempt(operation, names):
                    self._refused.keep(entry)
        self._refused.sync()
        self._aside.sync()

    def again(self, names: dict[str, str]) -> bool:
        """Try once more what was refused; whether nothing is left of it. Tags and ends that came after it stay."""
        if not (entries := self._refused.entries()):
            self._refused.replace(())
            return True
        left, full = list[Entry](), False
        self._without.clear()
        entries.sort(key=lambda entry: entry.divided)  # what was not looked through is first, for asking has an end
        for number, entry in enumerate(entries):
            if (operation := self._fitting(entry.operation)) is None:
                continue
            upload = operation["do"] in _FILES
            if upload and full:
                left.append(entry)
                continue
            operation = self._still_new(operation, names)
            if not upload:
                self._failures[json.dumps(operation)] = _TRIES  # it was tried so often before it was kept
            try:
                left += self._attempt(operation, names)
            except RetryLater as error:
                left.append(replace(entry, why=str(error)))
                full = upload  # the others would wait as long
                if not upload:
                    left += entries[number + 1 :]
                    break
        self._aside.sync()
        self._refused.replace(left)
        if left:
            told = {"count": len(left), "why": left[0].why, "note": self._refused.path}
            if left[0].unreadable:
                say(tr("{count} of what was logged cannot be sent (the first: {why}); it is kept in {note}", **told))
            else:
                say(
                    tr("The tracking store refuses {count} of what was logged (the first: {why}); it is kept in {note}", **told)
                )
        return not left

    def _attempt(self, operation: Operation, names: dict[str, str]) -> list[Entry]:
        """Perform an operation; what of it the store refuses, which of several metrics are only those that it does not take."""
        real = operation
        if names and operation["do"] != "create":
            text = PENDING.sub(lambda match: json.dumps(names.get(match[0], match[0]))[1:-1], json.dumps(operation))
            real = json.loads(text)
            real |= {"path": operation["path"]} if "path" in operation else {}  # files keep their names
        try:
            if real["run"] in self._without:
                return [Entry(operation, self._without[real["run"]])]
            if why := self._why_not(real, names):
                self._set_aside(operation, why)
                return []
            self._tidy(real)
            _perform(self._client, real, names, self._below)
            if real["do"] == "create":
                self._own.add(names[real["run"]])
        except _Unreadable as error:
            return [Entry(operation, str(error), unreadable=True)]
        except Exception as error:
            if is_temporary(error) and not self._is_stuck(operation, real["run"], error):
                raise RetryLater(_reason(error)) from error
            if real["do"] == "create" or self._lacks(real["run"], error) or len(operation.get("metrics", ())) < 2:
                return [Entry(operation, _reason(error))]
            return self._apart(operation, real, _reason(error))
        return []

    def _apart(self, operation: Operation, real: Operation, why: str) -> list[Entry]:
        """Send the metrics of a refused operation in parts; what of it the store does not take."""

        def send(metrics: list[Any]) -> None:
            try:
                _perform(self._client, {**real, "metrics": metrics}, {}, self._below)
            except Exception as error:  # tries are counted for the whole: those of each part would take hours
                if is_temporary(error) and not self._is_stuck(operation, real["run"], error):
                    raise RetryLater(_reason(error)) from error
                raise _NotTaken from error

        left, unknown = self._divider.left(operation["metrics"], send, _NotTaken)
        found = [Entry({**operation, "metrics": unknown}, why), Entry({**operation, "metrics": left}, why, divided=True)]
        return [entry for entry in found if entry.operation["metrics"]]

    def _lacks(self, run_id: str, error: Exception) -> bool:
        """Whether the store, which refused something, has no such run that can be written to: then nothing more of it is asked for."""
        try:
            if self._client.get_run(run_id).info.lifecycle_stage == "active":
                return False
        except Exception as why:
            if is_temporary(why):
                raise RetryLater(_reason(why)) from why
        self._without[run_id] = _reason(error)
        return True

    def _why_not(self, operation: Operation, names: dict[str, str]) -> str:
        """Why an operation is none of this folder's; empty where it is."""
        run = operation["run"]
        if operation["do"] == "create":
            own = bool({run, names.get(run)} & self._own) or self._is_own(
                names.get(above := operation["tags"].get(PARENT_TAG, ""), above)
            )
        else:
            own = self._is_own(run)
        if not own:
            return tr("run {run} is not the one of this folder, nor below it", run=run)
        if operation["do"] in ("file", "folder") and not _stays_below(self._below / operation["path"], self._below):
            return tr("{path} is not below the run's folder", path=operation["path"])
        return ""

    def _is_own(self, run_id: str) -> bool:
        """Whether a run of the store is that of this folder, or below it."""
        way: list[str] = []
        while run_id and not (run_id in self._own or run_id in self._others or run_id in way):
            way.append(run_id)
            run_id = self._above(run_id)
        own = run_id in self._own
        (self._own if own else self._others).update(way)
        return own

    def _above(self, run_id: str) -> str:
        """The run above one of the store's; empty without one, and where the store, which has this folder's run, does not have that."""
        try:
            return str(self._client.get_run(run_id).data.tags.get(PARENT_TAG, ""))
        except Exception as error:
            if PENDING.fullmatch(run_id) or not _is_missing(error):  # a pending run may be made by a later try
                raise
            self._client.get_run(self._root)
            return ""

    def _tidy(self, operation: Operation) -> None:
        """Before the first file of a run: remove what a process that was killed while it sent one has left beside it."""
        if operation["do"] in _FILES and operation["run"] not in self._tidied:
            remove_half_uploads(self._client.get_run(operation["run"]).info.artifact_uri)
            self._tidied.add(operation["run"])

    def _fitting(self, found: Any) -> Operation | None:
        """What of a record can be performed; the rest is set aside."""
        good, bad = parted(found)
        if bad is not None:
            self._set_aside(bad, what_is_wrong(bad), partly=good is not None)
        return good

    def _set_aside(self, operation: Any, why: str, *, partly: bool = False) -> None:
        told = {"folder": self._folder, "why": why, "folder_2": self._aside.path}
        if partly:
            said = tr(
                "A part of a record of {folder} is left out, and the rest goes on: {why}; it is kept in {folder_2}", **told
            )
        else:
            said = tr("A record of {folder} is left out, and the rest goes on: {why}; it is kept in {folder_2}", **told)
        kept = operation if is_shallow(operation) else {key: one if is_shallow(one) else "…" for key, one in operation.items()}
        self._aside.keep(json.dumps(kept), why, said)

    def _still_new(self, operation: Operation, names: dict[str, str]) -> Operation:
        """An operation without what later ones have decided: a run that has ended, tags that it has by now."""
        if operation["do"] != "end" and "tags" not in operation:
            return operation
        try:
            run = self._client.get_run(names.get(operation["run"], operation["run"]))
        except Exception:
            return operation  # then the attempt will say what is wrong
        if operation["do"] == "end":
            return operation if run.info.status == "RUNNING" else {"do": "batch", "run": operation["run"]}
        if operation["do"] == "batch":
            return {**operation, "tags": [pair for pair in operation["tags"] if pair[0] not in run.data.tags]}
        return operation

    def _is_stuck(self, operation: Operation, run_id: str, error: Exception) -> bool:
        """Whether an operation has failed often enough while the store answered otherwise; where another writer holds that, it never has."""
        if "database is locked" in str(error):
            return False
        try:
            self._client.get_run(self._root if PENDING.fullmatch(run_id) else run_id)
        except Exception:
            return False  # away: that is no fault of the operation
        text = json.dumps(operation)
        self._failures[text] += 1
        return self._failures[text] >= _TRIES


def is_temporary(error: Exception) -> bool:
    """Whether an error of the store may go away by itself: it does not answer, or says that it cannot now."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code in _TEMPORARY
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)


def _is_missing(error: Exception) -> bool:
    """Whether the store says that it has no such run."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.error_code in _MISSING


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


def run_of_key(client: Any, pending: str) -> Any | None:
    """The run that was made from a pending id, in any experiment; None without one."""
    there = [one.experiment_id for one in client.search_experiments(max_results=1000)]
    return next(iter(client.search_runs(there, f"tags.`{KEY_TAG}` = '{pending}'", max_results=1)), None)


def made_run(client: Any, operation: Operation, names: dict[str, str]) -> str:
    """The store's id of a run that was made without it: of the one with that key, else of a new one."""
    tags = {key: names.get(value, value) for key, value in operation["tags"].items()}
    tags[KEY_TAG] = operation["run"]
    experiment = operation["experiment"] or client.get_run(tags[PARENT_TAG]).info.experiment_id
    made = client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{operation['run']}'", max_results=1)
    if made:
        return str(made[0].info.run_id)
    new = client.create_run(experiment, start_time=operation["start"], run_name=operation["name"], tags=tags)
    return str(new.info.run_id)


def _is_there(path: Path, folder: Path) -> bool:
    """Whether what was logged by its path is still there to be sent; said where only it is gone from the run's folder."""
    gone = folder.is_dir() and path.is_relative_to(folder) and not path.exists()
    if gone:
        say(
            tr(
                "{path} is no longer there and is left out; a training removes checkpoints beyond training.save_last_n",
                path=path,
            )
        )
    return not gone


def _must_be_read(path: Path) -> None:
    """_Unreadable, naming the file, or the folder, where the disk or its rights do not give it: MLflow's error would be taken for the store's,
    and of a folder that cannot be read MLflow would send nothing, without a word."""
    try:
        for one in files_below(path) if path.is_dir() else (path,):
            with suppress(FileNotFoundError):  # gone a moment ago, which the sending says
                check_regular(one)
    except OSError as error:
        raise _unreadable(error, path) from error


def _unreadable(error: OSError, path: Path) -> _Unreadable:
    why = error.strerror or first_line(error)
    return _Unreadable(tr("{path} cannot be read ({value})", path=error.filename or path, value=why))


def _stays_below(path: Path, folder: Path) -> bool:
    """Whether a file, or all files of a folder, are below a folder, links followed, and files: a pipe would be waited for.

    _Unreadable where the disk does not say.
    """
    try:
        whole = folder.resolve()
        there = [path, *(path.rglob("*") if path.is_dir() else ())]
        return all(one.resolve().is_relative_to(whole) and (one.is_file() or one.is_dir() or not one.exists()) for one in there)
    except RuntimeError:  # links in a circle
        return False
    except OSError as error:
        raise _unreadable(error, path) from error


def _perform(client: Any, operation: Operation, names: dict[str, str], below: Path) -> None:
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
            if _is_there(path := below / operation["path"], below):
                _must_be_read(path)
                client.log_artifact(run, str(path), operation["folder"])
        case "folder":
            if _is_there(path := below / operation["path"], below):
                _must_be_read(path)
                client.log_artifacts(run, str(path), operation["folder"])
        case "text":
            client.log_text(run, operation["text"], operation["artifact"])
        case "inputs":
            datasets = [
                DatasetInput(Dataset(**d["dataset"]), [InputTag(key, value) for key, value in d["tags"]])
                for d in operation["datasets"]
            ]
            client.log_inputs(run, datasets)
        case "create":
            if run not in names:
                names[run] = made_run(client, operation, names)
        case "begin":
            client.update_run(run, status="RUNNING")
        case "untag":
            if operation["key"] in client.get_run(run).data.tags:
                client.delete_tag(run, operation["key"])
        case "delete":
            client.delete_run(run)
        case "end":
            begun = client.get_run(run).info.start_time or 0  # the clock may have been set back since
            client.set_terminated(run, operation["status"], end_time=max(operation["end"], begun))


def _reason(error: Exception) -> str:
    return first_line(error)[:200]
