"""Workers that share a study over PostgreSQL and nothing else: one is killed, the other takes over."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

from tests.runs.command import fashion_ml
from tests.runs.postgres import Postgres
from tests.runs.small_studies import children
from tests.runs.test_sweep import written

RATES = {"optimizer.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}}


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    server = Postgres(tmp_path)
    server.start()
    yield server
    server.stop()


def test_a_killed_workers_trial_is_retried_by_a_worker_with_another_home(workdir: Path, postgres: Postgres, collection: Path):
    """Two working folders, that share nothing but PostgreSQL over TCP and the tracking store."""
    uri, storage = os.environ["MLFLOW_TRACKING_URI"], postgres.url()
    homes = [workdir / "one", workdir / "two"]
    for home in homes:
        shutil.copytree(collection, home / "outputs" / collection.name)
        written(home, trials=1, sampler={"name": "random"}, search_space=RATES, confirm={"best": 0}, heartbeat_seconds=1)
    queued = fashion_ml("sweep", "sweep.yaml", "--workers", "0", "--storage", storage, cwd=homes[0], uri=uri)
    assert queued.returncode == 0, queued.stderr
    command = [sys.executable, "-m", "fashion_ml", "sweep-worker", "sweep.yaml"]
    environment = {**os.environ, "FASHION_ML_STORAGE": storage, "OMP_NUM_THREADS": "1"}

    def start(home: Path) -> subprocess.Popen[bytes]:
        with (home / "log.txt").open("wb") as log:
            return subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log)

    first = start(homes[0])
    deadline = time.monotonic() + 200
    client = MlflowClient(uri)

    def begun() -> bool:
        """Whether the store knows of the training; before that its run may be taken over."""
        notes = [
            json.loads(path.read_text(encoding="utf-8"))
            for path in homes[0].glob("outputs/sweeps/small/trials/*/*/run/run.json")
        ]
        return any(client.get_run(note["run_id"]).data.params for note in notes)

    while not begun():
        assert first.poll() is None, (homes[0] / "log.txt").read_text(encoding="utf-8")
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = start(homes[1])
    assert second.wait(300) == 0, (homes[1] / "log.txt").read_text(encoding="utf-8")

    result = fashion_ml("sweep", "sweep.yaml", "--storage", storage, "--json", "facts.json", cwd=homes[1], uri=uri)
    assert result.returncode == 0, result.stderr
    facts = json.loads((homes[1] / "facts.json").read_text(encoding="utf-8"))
    assert (facts["complete"], facts["failed"], facts["left"]) == (1, 0, 0)
    study = optuna.load_study(study_name="small", storage=postgres.url(driver="+psycopg"))
    states = [(trial.user_attrs["slot"], trial.state.name) for trial in study.trials]
    assert sorted(states) == [(0, "COMPLETE"), (0, "FAIL")]
    sweep = client.get_run(facts["run_id"])
    runs = [(run.data.tags["trial"], run.info.status) for run in children(client, sweep)]
    assert sorted(runs) == [("0", "FINISHED"), ("0", "KILLED")]  # the first home's files are lost to the second
    assert not [run for run in client.search_runs([sweep.info.experiment_id]) if run.info.status == "RUNNING"]
    everything = [path for home in homes for path in home.rglob("*") if path.is_file()]
    told = [path for path in everything if b"open-sesame" in path.read_bytes()]
    assert told == []
