"""What small sweeps and suites of the tests share: their experiment, its settings, and the runs below a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow import MlflowClient

PROJECT = Path(__file__).parents[2]
EMBEDDED = str(PROJECT / "experiments" / "lora" / "embedded.yaml")
SMALL: dict[str, Any] = {
    "data.resolution": 32,
    "training.max_train_steps": 3,
    "training.save_state_minutes": 0.001,
    "evaluation.images_per_reference": 1,
    "evaluation.num_inference_steps": 1,
    "evaluation.prompts": "none",
    "evaluation.extra_metrics": [],
}
"""Trainings of seconds."""


def children(client: MlflowClient, run: Any) -> list[Any]:
    query = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    return list(client.search_runs([run.info.experiment_id], query))
