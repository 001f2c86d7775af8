"""Models of runs in MLflow's registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass
from fashion_ml.tracking.store import open_tracking


def log_model(run_id: str, name: str, saver: Any, options: Mapping[str, Any], step: int) -> tuple[str, str]:
    """Log a model of a run, saved by `saver.save_model`, and register it as `name`; its version and URI.

    The run's metrics of `step` are attached to the model.
    """
    import logging

    import mlflow
    from mlflow.models import Model

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    experiment = open_tracking().get_run(run_id).info.experiment_id
    mlflow.set_experiment(experiment_id=experiment)  # else the model is put into the default experiment
    info = Model.log(
        artifact_path=None, name="model", flavor=saver, run_id=run_id, registered_model_name=name, step=step, **options
    )
    return str(info.registered_model_version), str(info.model_uri)


def champion_run(client: Any, name: str, alias: str) -> str | None:
    """The run of the version of a registered model that has an alias; None without one."""
    version = client.get_registered_model(name).aliases.get(alias)
    return str(client.get_model_version(name, str(version)).run_id) if version is not None else None
