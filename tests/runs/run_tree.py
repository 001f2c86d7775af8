"""What a store holds of a run and of the runs below it, in a form that two stores can be compared by."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from fashion_ml.runs.training_speed import OF_THE_MACHINE

PARENT = "mlflow.parentRunId"
OWN = (
    *("process", "folder", "spool.key", PARENT, "eval.run_id", "training_seconds", "mlflow.runName", "source.changed"),
    "mlflow.source.git.commit",  # a checkout may go on while a harness of an hour runs
)
"""Tags that differ between two runs of the same settings."""


def tree(
    client: MlflowClient, run_id: str, history: Callable[[str, str], list[tuple[int, float]]] | None = None
) -> dict[str, Any]:
    """Name, status, tags, params, points, artifacts, data sets of a run, and the same of those below it.

    `history` gives steps and values by run and metric; without it the store is asked for each.
    """
    run = client.get_run(run_id)
    below = client.search_runs([run.info.experiment_id], f"tags.`{PARENT}` = '{run_id}'", order_by=["start_time"])
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "tags": {key: value for key, value in run.data.tags.items() if key not in OWN},
        "params": {key: value for key, value in run.data.params.items() if not key.startswith(("output.", "tracking."))},
        "points": {
            key: _sorted(key, history(run_id, key)) if history else points(client, run_id, key) for key in run.data.metrics
        },
        "artifacts": sorted(_artifacts(_repository(client, run))),
        "data": [(one.dataset.name, one.dataset.digest, one.tags[0].value) for one in run.inputs.dataset_inputs],
        "below": [tree(client, child.info.run_id, history) for child in below],
    }


def points(client: MlflowClient, run_id: str, key: str) -> list[Any]:
    """Steps and values of a metric, and of those that are the machine's the steps alone."""
    return _sorted(key, [(point.step, point.value) for point in client.get_metric_history(run_id, key)])


def _sorted(key: str, history: list[tuple[int, float]]) -> list[Any]:
    return sorted((step, None if key in OF_THE_MACHINE else value) for step, value in history)


def leaves(found: dict[str, Any], path: str = "") -> list[tuple[str, str, Any]]:
    """Every fact of a tree alone, with the run that it is of, so that a difference can be read.

    A run is known by its name and those above it; the second of one name below one run is `NAME (2)`, so that a doubled one is one more.
    """
    own, path, seen = [], path or found["name"], Counter[str]()
    for key, value in found.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        own += [(path, f"{key} {part}", one) for part, one in sorted(parts) if key != "below"]
    for below in found["below"]:
        seen[below["name"]] += 1
        number = seen[below["name"]]
        own += leaves(below, f"{path}/{below['name']}" + (f" ({number})" if number > 1 else ""))
    return own


def artifacts(client: MlflowClient, run_id: str) -> list[str]:
    """The paths of all artifacts; of pictures and reports without the times in their names."""
    return _artifacts(_repository(client, client.get_run(run_id)))


def _repository(client: MlflowClient, run: Run) -> ArtifactRepository:
    """Asked itself: the client looks the run up again for every folder."""
    return get_artifact_repository(run.info.artifact_uri, tracking_uri=client.tracking_uri)


def _artifacts(there: ArtifactRepository, folder: str | None = None) -> list[str]:
    found = []
    for item in there.list_artifacts(folder):
        if item.is_dir:
            found += _artifacts(there, item.path)
        elif "+step+" in item.path:
            found.append("+".join(item.path.split("+")[:3]))
        else:
            found.append(re.sub(r"_\d{8}_\d{6}", "", item.path))
    return found
