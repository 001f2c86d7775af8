"""MLflow's errors of a served model, by the codes that its server turns into statuses; read in the code of 3.17."""

from __future__ import annotations

from typing import Any


def answer(code: str, text: str) -> Any:
    """The error to raise: INVALID_PARAMETER_VALUE is status 400, RESOURCE_EXHAUSTED 429, CANCELLED 499, TEMPORARILY_UNAVAILABLE 503,
    DEADLINE_EXCEEDED 504."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ErrorCode

    return MlflowException(text, ErrorCode.Value(code))
