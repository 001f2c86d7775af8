"""MLflow's errors of a served model, by the codes that its server turns into statuses; read in the code of 3.17."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

_log = logging.getLogger("fashion_ml")


def answer(code: str, text: str) -> Any:
    """The error to raise: INVALID_PARAMETER_VALUE is status 400, RESOURCE_EXHAUSTED 429, CANCELLED 499, TEMPORARILY_UNAVAILABLE 503,
    DEADLINE_EXCEEDED 504."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ErrorCode

    return MlflowException(text, ErrorCode.Value(code))


def unanswered(error: Exception) -> Any:
    """The error to raise for one that no client is to blame for, status 500, which tells nothing of this machine; the log has it all."""
    _log.error("a request could not be answered", exc_info=error)
    return answer("INTERNAL_ERROR", "the model could not answer this; its server's log says why")


class Discreet:
    """A loaded model as MLflow's server asks it, which would answer errors of MLflow's own code around it with status 400 and a stack trace."""

    def __init__(self, model: Any):
        self._model, self.metadata = model, model.metadata

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        """As the model's, and `unanswered` where it fails."""
        from mlflow.exceptions import MlflowException

        try:
            return self._model.predict(data, params=params)
        except MlflowException:  # an answer already
            raise
        except Exception as error:
            raise unanswered(error) from None
