"""The tracking store: where runs are kept, and that it can be used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import marked, tr, translated
from fashion_ml.runtime.redact import first_line, without_credentials
from fashion_ml.tracking.mlflow_private import wait_longer_for_sqlite
from fashion_ml.tracking.sender import PENDING, is_temporary, run_of_key
from fashion_ml.tracking.store_checks import (
    FIELD,
    check_uri,
    meant_by_mlflow_run,
    sqlite_file,
    what_is_wrong,
    with_whole_path,
)
from fashion_ml.tracking.store_file import make_whole

_answered: set[str] = set()
"""Stores that have answered a question of this process."""


def open_tracking(*, make: bool = True) -> Any:
    """The MLflow client of the configured store (`MLFLOW_TRACKING_URI`, else `mlflow.db` in the working folder).

    Without `make` a store that is not there is not made: for what only reads. InputError when it cannot be used: it is not there, does not
    answer, wants other credentials, is none, cannot be written.
    """
    import logging

    logging.getLogger("alembic").setLevel(logging.WARNING)
    for name in ("mlflow.store.db.utils", "mlflow.utils.databricks_utils"):
        logging.getLogger(name).setLevel(logging.WARNING if name.endswith("db.utils") else logging.ERROR)
    import mlflow

    uri = store_uri()
    check_uri(uri)
    if not make and not store_is_there():
        raise InputError(
            tr(
                "{field}: {shown_uri!r} is not there yet, so it has no runs; {go}",
                field=FIELD,
                shown_uri=shown_uri(uri),
                go=translated(_GO),
            )
        )
    if sqlite_file(uri) is not None:
        wait_longer_for_sqlite()
    try:
        with _first_use(uri):
            client = mlflow.MlflowClient(uri)
        if uri not in _answered:
            client.search_experiments(max_results=1)
            _answered.add(uri)
    except Exception as error:
        raise InputError(f"{FIELD}: {what_is_wrong(uri, error)}") from error
    return client


@contextmanager
def _first_use(uri: str) -> Iterator[None]:
    """One process at a time, so that two that start together do not both make the tables of a new sqlite store; whole ones are there then."""
    file = sqlite_file(uri)
    if file is None or not os.access(file.absolute().parent, os.W_OK):
        yield
        return
    from filelock import FileLock

    with FileLock(f"{file}.lock", timeout=120):
        make_whole(file)
        yield


def store_is_there() -> bool:
    """Whether there is a store to ask, so that asking makes none."""
    file = sqlite_file(store_uri())
    return file is None or file.exists()


def shown_uri(uri: str) -> str:
    """A store's URI without its credentials."""
    return without_credentials(uri)


def store_uri() -> str:
    """Where runs are kept; of an sqlite store with its whole path, wherever it was given.

    Under `mlflow run DIR` a relative path means what it meant where that was called. It is noted in the environment for the processes
    that this one starts.
    """
    import mlflow

    uri, run_id = mlflow.get_tracking_uri(), os.environ.get("MLFLOW_RUN_ID")
    meant = meant_by_mlflow_run(uri, run_id) if run_id else uri
    if meant != uri:
        os.environ["MLFLOW_TRACKING_URI"] = meant
    with suppress(OSError):  # the working folder is gone
        return with_whole_path(meant, Path.cwd())
    return meant


_GO = marked("go to the folder where the training ran, or set MLFLOW_TRACKING_URI")
_COPY = marked("copy the id from the run's page, or set MLFLOW_TRACKING_URI")


def find_run(client: Any, run_id: str, field: str = "run_id", fix: str = _COPY) -> Any:
    """The MLflow run of an id that stands in `field`; InputError with a `fix` when there is none in the store."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if is_temporary(error):
            raise InputError(
                tr(
                    "{field}: {shown_uri!r} does not answer ({first_line}); try again when it does",
                    field=FIELD,
                    shown_uri=shown_uri(store_uri()),
                    first_line=first_line(error)[:200],
                )
            ) from None
        if error.error_code == "PERMISSION_DENIED":
            raise InputError(f"{FIELD}: {what_is_wrong(store_uri(), error)}") from None
        if PENDING.fullmatch(run_id) and getattr(client, "direct", client) is not None:  # its name before it was sent
            found = run_of_key(client, run_id)
            if found is not None:
                return found
            fix = tr("it was made offline: send it by fashion-ml sync, or give its folder instead of its id")
        raise InputError(
            tr(
                "{field}: {run_id!r} is not in {shown_uri}; {fix}",
                field=field,
                run_id=run_id,
                shown_uri=shown_uri(store_uri()),
                fix=translated(fix),
            )
        ) from None


def run_to_resume(client: Any, run_id: str) -> Any:
    """The MLflow run that `--resume` goes on with. InputError when the store has none of that id, or it was deleted."""
    run = find_run(client, run_id, "resume", tr("set MLFLOW_TRACKING_URI to the store of that run, or start over by --new"))
    if run.info.lifecycle_stage != "active":
        raise InputError(
            tr("resume: the run {run_id} was deleted in MLflow; restore it there, or start over by --new", run_id=run_id)
        )
    return run
