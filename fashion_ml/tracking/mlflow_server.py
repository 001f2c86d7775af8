"""MLflow's own server as an application that runs in this process: its UI and REST with its security, and pages of ours beside them.

`mlflow server` starts uvicorn, workers and a runner of jobs as processes of their own, which outlive it. How it tells them what to serve is
undocumented; a version that has moved it fails tests/unit/tracking/test_mlflow_server.py.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.redact import first_line

_ARTIFACTS, _DESTINATION = "mlflow-artifacts:/", "./mlartifacts"


def mlflow_app(uri: str, routes: Sequence[Any]) -> Any:
    """The ASGI application of a store, with Starlette routes of ours before MLflow's. InputError when this version cannot be served so.

    Nothing of `mlflow.server` may have been imported before: it reads what to serve, and whom to trust, while it is imported.
    """
    os.environ |= _told(uri)
    try:
        from mlflow.server.handlers import initialize_backend_stores

        initialize_backend_stores(uri, os.environ["_MLFLOW_SERVER_REGISTRY_STORE"], os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Starlette's of what MLflow uses of it
            from mlflow.server.fastapi_app import app
    except ImportError as error:
        raise InputError(
            tr(
                "ui: this version of MLflow cannot be served from here ({first_line}); start it by: mlflow server",
                first_line=first_line(error),
            )
        ) from error
    app.router.routes[:0] = routes
    return app


def _told(uri: str) -> dict[str, str]:
    """What `mlflow server` tells its workers, by its own options' defaults and environment."""
    given = os.environ
    return {
        "_MLFLOW_SERVER_FILE_STORE": uri,
        "_MLFLOW_SERVER_REGISTRY_STORE": given.get("MLFLOW_REGISTRY_STORE_URI") or uri,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": given.get("MLFLOW_DEFAULT_ARTIFACT_ROOT") or _ARTIFACTS,
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": given.get("MLFLOW_ARTIFACTS_DESTINATION") or _DESTINATION,
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
        "_MLFLOW_STATIC_PREFIX": "",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # jobs are MLflow's evaluations of language models, in processes of their own
    }
