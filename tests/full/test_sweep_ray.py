"""`--launcher ray` on two nodes of this machine with a declared GPU each, one of which is killed: minutes, so not in the ordinary suite."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.full.test_sweep_postgres import RATES
from tests.runs.small_studies import children
from tests.runs.test_sweep import written


def test_each_trial_sees_one_device_and_a_lost_node_loses_no_trial(workdir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    from ray.cluster_utils import Cluster

    uri = os.environ["MLFLOW_TRACKING_URI"]
    written(workdir, trials=3, sampler={"name": "random"}, search_space=RATES, confirm={"best": 0}, heartbeat_seconds=1)
    small = {"num_gpus": 1, "num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80_000_000})
    try:
        nodes = [cluster.add_node(**small) for _ in range(2)]
        command = [sys.executable, "-m", "fashion_ml", "sweep", "sweep.yaml", "--launcher", "ray", "--json", "facts.json"]
        environment = {**os.environ, "RAY_ADDRESS": cluster.address, "OMP_NUM_THREADS": "1"}
        with (workdir / "log.txt").open("wb") as log:
            process = subprocess.Popen(command, cwd=workdir, env=environment, stdout=log, stderr=log)
        trials, deadline = workdir / "outputs" / "sweeps" / "small" / "trials", time.monotonic() + 240
        while len(list(trials.glob("*/*/run/run.json"))) < 2:  # both nodes train
            assert process.poll() is None, (workdir / "log.txt").read_text(encoding="utf-8")
            assert time.monotonic() < deadline
            time.sleep(0.1)
        cluster.remove_node(nodes[1], allow_graceful=False)
        assert process.wait(400) == 0, (workdir / "log.txt").read_text(encoding="utf-8")
    finally:
        cluster.shutdown()
    facts = json.loads((workdir / "facts.json").read_text(encoding="utf-8"))
    assert (facts["complete"], facts["failed"], facts["left"]) == (3, 0, 0)
    client = MlflowClient(uri)
    sweep = client.get_run(facts["run_id"])
    runs = children(client, sweep)
    assert sorted(run.data.tags["trial"] for run in runs) == ["0", "1", "2"]
    assert {run.data.tags["device"] for run in runs} == {"0"}
    assert {run.info.status for run in client.search_runs([sweep.info.experiment_id])} == {"FINISHED"}
