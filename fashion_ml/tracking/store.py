"""The tracking store: where runs are kept, and that it can be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.redact import first_line, without_credentials
from fashion_ml.tracking.sender import is_temporary

if TYPE_CHECKING:
    pass


def open_tracking() -> Any:
    """The MLflow client of the configured store (`MLFLOW_TRACKING_URI`, else `mlflow.db` in the working folder)."""
    import logging

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    import mlflow

    uri = mlflow.get_tracking_uri()
    if uri.startswith(("http://", "https://")):
        _check_server(uri)
    try:
        with _first_use(uri):
            return mlflow.MlflowClient()
    except Exception as error:
        raise InputError(
            f"MLFLOW_TRACKING_URI: {shown_uri(uri)!r} cannot be used ({first_line(error)[:200]}); {_store_fix(uri)}"
        ) from error


def _store_fix(uri: str) -> str:
    if uri.startswith("sqlite:///"):
        return f"move {uri.removeprefix('sqlite:///')} aside, or bring back a copy of it; a new one is made"
    return "mend it, or unset MLFLOW_TRACKING_URI for a local store"


@contextmanager
def _first_use(uri: str) -> Iterator[None]:
    """One process at a time, so that two that start together do not both make the tables of a new sqlite store."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    from urllib.parse import unquote

    from filelock import FileLock

    with FileLock(f"{unquote(uri.removeprefix('sqlite:///'))}.lock", timeout=120):
        yield


def _check_server(uri: str) -> None:
    """InputError at once when nothing answers; MLflow itself would go on trying for minutes."""
    from urllib.error import HTTPError
    from urllib.parse import urlsplit
    from urllib.request import urlopen

    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    try:
        urlopen(f"{parts.scheme}://{host}{parts.path.rstrip('/')}/health", timeout=10).close()
    except HTTPError:
        return  # something answers: let MLflow say what is wrong
    except OSError as error:
        raise InputError(
            f"MLFLOW_TRACKING_URI: {shown_uri(uri)!r} does not answer ({error}); start that server, or unset it for a local store"
        ) from error


def shown_uri(uri: str) -> str:
    """A store's URI without its credentials."""
    return without_credentials(uri)


def store_uri() -> str:
    """Where runs are kept."""
    import mlflow

    return mlflow.get_tracking_uri()


def find_run(client: Any, run_id: str) -> Any:
    """The MLflow run of an id; InputError when there is none in the store."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if is_temporary(error):
            raise InputError(
                f"MLFLOW_TRACKING_URI: {shown_uri(store_uri())!r} does not answer ({first_line(error)[:200]}); try again when it does"
            ) from None
        raise InputError(
            f"run_id: {run_id!r} is not in {shown_uri(store_uri())}; copy the id from the run's page, or set MLFLOW_TRACKING_URI"
        ) from None


def kind_of(run_id: str) -> str:
    """The tag `kind` of a run, empty without one; InputError when the store has no such run."""
    return find_run(open_tracking(), run_id).data.tags.get("kind", "")
