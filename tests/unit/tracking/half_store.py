"""Half of a store for the tests of what sends to one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mlflow.exceptions import MlflowException

from fashion_ml.tracking.refused import FILE
from fashion_ml.tracking.spool import Operation


class Store:
    """Half of an MlflowClient; breaks where it is told to."""

    def __init__(self) -> None:
        self.away = self.full = False
        self.artifacts = "s3://elsewhere"
        self.metrics: list[str] = []
        self.texts: list[str] = []

    def _answer(self) -> None:
        if self.away:
            raise MlflowException("API request failed", error_code=500)

    def get_run(self, run_id: str) -> Any:
        self._answer()
        tags = {"mlflow.parentRunId": "r"} if run_id in "ab" else {}
        info = SimpleNamespace(run_id=run_id, lifecycle_stage="active", artifact_uri=self.artifacts)
        return SimpleNamespace(info=info, data=SimpleNamespace(tags=tags))

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        self._answer()
        if any(metric.key == "bad" for metric in metrics):
            raise MlflowException.invalid_parameter_value("bad is no name")
        self.metrics += [metric.key for metric in metrics]

    def log_text(self, run_id: str, text: str, artifact: str) -> None:
        self._answer()
        if self.full:
            raise OSError(28, "No space left on device")
        self.texts.append(text)


def metric(name: str) -> Operation:
    return {"do": "batch", "run": "r", "metrics": [[name, 1.0, 0, 0]]}


TEXT = {"do": "text", "run": "r", "text": "a report", "artifact": "report.txt"}


def refused(folder: Path) -> list[Operation]:
    path = folder / FILE
    return [json.loads(line)["operation"] for line in path.read_text().splitlines()] if path.exists() else []
