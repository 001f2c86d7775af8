"""What the adapter tells MLflow's server is what the installed version reads; a failure names that version."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from fashion_ml.tracking import mlflow_server

PACKAGE = Path(mlflow.__file__).parent
READS = "\n".join(
    path.read_text(encoding="utf-8") for path in [*(PACKAGE / "server").glob("*.py"), PACKAGE / "environment_variables.py"]
)


@pytest.mark.parametrize("name", mlflow_server._told("sqlite:///mlflow.db"))
def test_this_version_reads_every_variable_that_it_is_told_by(name: str):
    assert f'"{name}"' in READS, f"mlflow {mlflow.__version__} no longer reads {name}: see fashion_ml/tracking/mlflow_server.py"


def test_what_the_user_has_told_mlflow_by_its_own_variables_counts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", "/else/where")
    monkeypatch.setenv("MLFLOW_REGISTRY_STORE_URI", "sqlite:////registry.db")
    told = mlflow_server._told("sqlite:////runs.db")
    assert told["_MLFLOW_SERVER_FILE_STORE"] == "sqlite:////runs.db"
    assert told["_MLFLOW_SERVER_REGISTRY_STORE"] == "sqlite:////registry.db"
    assert told["_MLFLOW_SERVER_ARTIFACT_DESTINATION"] == "/else/where"
