"""A sweep on PostgreSQL whose processes are killed at random: minutes, so not in the ordinary suite."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
from mlflow import MlflowClient

from tests.full.victims import victims
from tests.runs.command import fashion_ml
from tests.runs.postgres import Postgres
from tests.runs.small_studies import children
from tests.runs.test_sweep import written

TRIALS = 6
RATES = {"optimizer.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}}
SETTINGS = {"training.max_train_steps": 12, "training.save_state_minutes": 0.01, "evaluation.max_references": 4}


def test_ten_kills_lose_no_trial_and_count_none_twice(workdir: Path):
    """SIGKILL of the parent, a worker or a training, at random moments; a killed parent is started again, as its user would."""
    draw, uri = random.Random(0), os.environ["MLFLOW_TRACKING_URI"]
    server = Postgres(workdir)
    server.start()
    changes = {"trials": TRIALS, "sampler": {"name": "random"}, "search_space": RATES, "confirm": {"best": 0}}
    one = dict.fromkeys(("evaluation.images_per_reference", "evaluation.num_inference_steps"), 1)
    base = {**one, "evaluation.extra_metrics": [], "evaluation.prompts": "none"}
    written(workdir, **changes, heartbeat_seconds=1, settings={**base, **SETTINGS})
    command = [sys.executable, "-m", "fashion_ml", "sweep", "sweep.yaml", "--workers", "2"]
    environment = {**os.environ, "FASHION_ML_STORAGE": server.url()}

    def start() -> subprocess.Popen[bytes]:
        with (workdir / "log.txt").open("ab") as log:
            return subprocess.Popen(command, cwd=workdir, env=environment, stdout=log, stderr=log)

    killed: Counter[str] = Counter()
    order = [*("parent", "worker", "training") * 3, "training"]
    draw.shuffle(order)
    process, deadline = start(), time.monotonic() + 1500
    try:
        while len(order) > 0:
            assert time.monotonic() < deadline, killed
            time.sleep(draw.uniform(1, 8))
            found = victims(workdir)[order[0]]
            if found:
                draw.choice(found).send_signal(signal.SIGKILL)
                killed[order.pop(0)] += 1
            if process.poll() is not None:
                assert process.returncode == -signal.SIGKILL, (workdir / "log.txt").read_text(encoding="utf-8")[-3000:]
                process = start()
        assert process.wait(900) in (0, -signal.SIGKILL)
        result = fashion_ml(
            "sweep", "sweep.yaml", "--workers", "2", "--storage", server.url(), "--json", "f.json", cwd=workdir, uri=uri
        )
        assert result.returncode == 0, result.stderr
        facts = json.loads((workdir / "f.json").read_text(encoding="utf-8"))
        study = optuna.load_study(study_name="small", storage=server.url(driver="+psycopg"))
        complete = [trial.user_attrs["slot"] for trial in study.trials if trial.state.name == "COMPLETE"]
    finally:
        for processes in victims(workdir).values():
            for one in processes:
                one.kill()
        server.stop()
    assert dict(killed) == {"parent": 3, "worker": 3, "training": 4}
    assert (facts["complete"], facts["failed"], facts["left"]) == (TRIALS, 0, 0)
    assert sorted(complete) == list(range(TRIALS))
    client = MlflowClient(uri)
    sweep = client.get_run(facts["run_id"])
    runs = children(client, sweep)
    assert sorted(run.data.tags["trial"] for run in runs if run.info.status == "FINISHED") == [str(n) for n in range(TRIALS)]
    for run in runs:
        points = [point.step for point in client.get_metric_history(run.info.run_id, "total_loss")]
        assert len(points) == len(set(points))
        finished = [child for child in children(client, run) if child.info.status == "FINISHED"]
        assert len(finished) == (run.info.status == "FINISHED")
    assert not [run for run in client.search_runs([sweep.info.experiment_id], max_results=5000) if run.info.status == "RUNNING"]
