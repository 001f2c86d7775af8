"""Half of a store's client that has every run and takes everything that MLflow's takes, and answers to the rest as that does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import verify_artifact_path


class TakesAll:
    """What a sender asks."""

    def get_run(self, run_id: str) -> Any:
        """One below the folder's."""
        info = SimpleNamespace(lifecycle_stage="active", artifact_uri="s3://x", start_time=0, status="")
        return SimpleNamespace(info=info, data=SimpleNamespace(tags={"mlflow.parentRunId": "0"}))

    def search_runs(self, *given: Any, **more: Any) -> list[Any]:
        """None."""
        return []

    def create_run(self, experiment: str, start_time: int, run_name: str, tags: dict[str, str]) -> Any:
        """A new one."""
        _store(start_time, run_name, *tags, *tags.values())
        return SimpleNamespace(info=SimpleNamespace(run_id="1"))

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        """Takes it."""
        for one in metrics:
            _store(one.key, float(one.value), one.timestamp, one.step)
        for pair in (*params, *tags):
            _store(pair.key, pair.value)

    def log_text(self, run_id: str, text: str, artifact: str) -> None:
        """Takes it."""
        verify_artifact_path(artifact)

    def log_artifact(self, run_id: str, path: str, folder: str | None) -> None:
        """Takes it."""
        verify_artifact_path(folder)

    log_artifacts = log_artifact

    def set_terminated(self, run_id: str, status: str, end_time: int) -> None:
        """Takes it."""
        _store(end_time)

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **more: None


def _store(*values: Any) -> None:
    """As a database: what goes wrong there is an internal error of MLflow's."""
    for value in values:
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise MlflowException("Python int too large to convert to SQLite INTEGER")
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeError as error:
                raise MlflowException(str(error)) from error
