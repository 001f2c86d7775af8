"""The clock on the wall is set by an hour, forwards or back, in the middle of a training; tests/full sets each trainer's the other way too."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fashion_ml.training.resume_point import STATE
from tests.full.kill_scenarios import LORA, STARGAN, encoded, pictures
from tests.runs.forked import forked
from tests.runs.run_tree import tree

pytestmark = pytest.mark.slow

HOUR = 3600


def step_clock(folder: Path, seconds: int) -> None:
    """From the first state that a training has saved on the clock of this process is so many seconds on."""
    import fashion_ml.tracking.offline_client
    import fashion_ml.tracking.run
    import fashion_ml.tracking.spooled_client

    real = time.time

    def stepped() -> float:
        return real() + (seconds if (folder / STATE).exists() else 0)

    time.time = stepped
    for module in (fashion_ml.tracking.run, fashion_ml.tracking.spooled_client, fashion_ml.tracking.offline_client):
        module.clock = stepped  # type: ignore[attr-defined]


CASES = {
    "lora": ((*LORA, "--no-evaluate"), pictures, "total_loss", [1, 2, 3]),
    "stargan": ((*STARGAN, "--no-evaluate", "--set", "training.save_every_n_epochs=1"), encoded, "g_loss", [1, 2]),
}
"""What is run, what is there before it, a metric and its steps."""


@pytest.mark.parametrize(("trainer", "seconds"), [("lora", HOUR), ("stargan", -HOUR)])
def test_points_and_durations_stay_as_they_are(workdir: Path, trainer: str, seconds: int):
    check_clock(workdir, trainer, seconds)


def check_clock(workdir: Path, trainer: str, seconds: int) -> None:
    """A training under which the clock is set, and a sync behind it."""
    command, prepare, metric, steps = CASES[trainer]
    uri = f"sqlite:///{workdir / 'mlflow.db'}"
    prepare(workdir)
    before = partial(step_clock, workdir / "out", seconds)
    code, said = forked(*command, cwd=workdir, uri=uri, before=before)
    assert code == 0, said
    note = json.loads((workdir / "out" / "run.json").read_text())
    client = MlflowClient(uri)
    found = tree(client, note["run_id"])
    assert found["status"] == "FINISHED"
    assert [step for step, _ in found["points"][metric]] == steps
    assert client.get_run(note["run_id"]).data.metrics[metric] == found["points"][metric][-1][1]
    times = [point.timestamp for point in client.get_metric_history(note["run_id"], metric)]
    assert abs(abs(max(times) - min(times)) / 1000 - HOUR) < HOUR / 2, "the clock was set"
    facts = json.loads((workdir / "out" / "facts.json").read_text())
    assert 0 < facts["training_seconds"] < HOUR / 2
    info = client.get_run(note["run_id"]).info
    assert info.end_time >= info.start_time
    code, said = forked("sync", "out", cwd=workdir, uri=uri)
    assert code == 0, said
    assert tree(client, note["run_id"]) == found
