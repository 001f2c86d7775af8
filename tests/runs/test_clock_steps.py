"""The clock on the wall is set by an hour, forwards or back, in the middle of a training."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.full.kill_scenarios import LORA, pictures
from tests.runs.forked import forked
from tests.runs.run_tree import tree

HOUR = 3600


def step_clock(folder: Path, seconds: int) -> None:
    """From the first checkpoint of a training on the clock of this process is so many seconds on."""
    import fashion_ml.tracking.offline_client
    import fashion_ml.tracking.run
    import fashion_ml.tracking.spooled_client

    real = time.time

    def stepped() -> float:
        return real() + (seconds if (folder / "lora-step00000002.safetensors").exists() else 0)

    time.time = stepped
    for module in (fashion_ml.tracking.run, fashion_ml.tracking.spooled_client, fashion_ml.tracking.offline_client):
        module.clock = stepped  # type: ignore[attr-defined]


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_points_and_durations_stay_as_they_are(workdir: Path, seconds: int):
    uri = f"sqlite:///{workdir / 'mlflow.db'}"
    pictures(workdir)
    before = partial(step_clock, workdir / "out", seconds)
    code, said = forked(*LORA, "--no-evaluate", cwd=workdir, uri=uri, before=before)
    assert code == 0, said
    note = json.loads((workdir / "out" / "run.json").read_text())
    client = MlflowClient(uri)
    found = tree(client, note["run_id"])
    assert found["status"] == "FINISHED"
    assert [step for step, _ in found["points"]["total_loss"]] == [1, 2, 3]
    assert client.get_run(note["run_id"]).data.metrics["total_loss"] == found["points"]["total_loss"][-1][1]
    times = [point.timestamp for point in client.get_metric_history(note["run_id"], "total_loss")]
    assert abs(abs(max(times) - min(times)) / 1000 - HOUR) < HOUR / 2, "the clock was set"
    facts = json.loads((workdir / "out" / "facts.json").read_text())
    assert 0 < facts["training_seconds"] < HOUR / 2
    info = client.get_run(note["run_id"]).info
    assert info.end_time >= info.start_time
    code, said = forked("sync", "out", cwd=workdir, uri=uri)
    assert code == 0, said
    assert tree(client, note["run_id"]) == found
