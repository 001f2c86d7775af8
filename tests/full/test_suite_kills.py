"""A suite whose processes are killed at random: minutes, so not in the ordinary suite."""

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

from mlflow import MlflowClient

from tests.full.victims import victims
from tests.runs.command import fashion_ml
from tests.runs.small_studies import children
from tests.runs.test_suite import SPEC, trials, written

RECIPES = {f"rank {rank}": {"settings": {"rank": rank}} for rank in (2, 4, 8)}
SEEDS = ("0", "1", "2")
SETTINGS = {"training.max_train_steps": 12, "training.save_state_minutes": 0.01}


def test_six_kills_lose_no_training_and_make_none_twice(workdir: Path):
    """SIGKILL of the parent, a worker or a training, twice each, at random moments; a killed parent is started again, as its user would.

    The first moments are those in which the tracking store is made.
    """
    draw, uri = random.Random(0), os.environ["MLFLOW_TRACKING_URI"]
    (workdir / "mlflow.db").unlink()
    written(workdir, recipes=RECIPES, settings={**SPEC["settings"], **SETTINGS})
    command = [sys.executable, "-m", "fashion_ml", "suite", "suite.yaml", "--workers", "2"]

    def start() -> subprocess.Popen[bytes]:
        with (workdir / "log.txt").open("ab") as log:
            return subprocess.Popen(command, cwd=workdir, stdout=log, stderr=log)

    killed: Counter[str] = Counter()
    order = ["parent", "worker", "training"] * 2
    draw.shuffle(order)
    process, deadline = start(), time.monotonic() + 1500
    try:
        while order:
            assert time.monotonic() < deadline, killed
            time.sleep(draw.uniform(1, 12))
            if found := victims(workdir)[order[0]]:
                draw.choice(found).send_signal(signal.SIGKILL)
                killed[order.pop(0)] += 1
            if process.poll() is not None:
                assert process.returncode == -signal.SIGKILL, (workdir / "log.txt").read_text(encoding="utf-8")[-3000:]
                process = start()
        assert process.wait(900) in (0, -signal.SIGKILL)
        result = fashion_ml("suite", "suite.yaml", "--workers", "2", "--json", "f.json", cwd=workdir, uri=uri)
        assert result.returncode == 0, result.stderr
    finally:
        for processes in victims(workdir).values():
            for one in processes:
                one.kill()
    facts = json.loads((workdir / "f.json").read_text(encoding="utf-8"))
    assert dict(killed) == {"parent": 2, "worker": 2, "training": 2}
    assert (facts["complete"], facts["failed"], facts["left"]) == (9, 0, 0)
    complete = [(one.user_attrs["recipe"], one.user_attrs["seed"]) for one in trials(workdir) if one.value is not None]
    assert sorted(complete) == sorted((name, int(seed)) for name in RECIPES for seed in SEEDS)
    client = MlflowClient(uri)
    top = client.get_run(facts["run_id"])
    recipes = children(client, top)
    assert sorted(run.data.tags["recipe_name"] for run in recipes) == sorted(RECIPES)
    for recipe in recipes:
        trainings = children(client, recipe)
        ended = [run.data.params["training.seed"] for run in trainings if run.info.status == "FINISHED"]
        assert sorted(ended) == list(SEEDS)
        cut = [run for run in trainings if run.info.status != "FINISHED"]  # by a kill before it could be noted with its trial
        assert not [run.info.run_id for run in cut if run.data.params or run.data.metrics]
        for run in trainings:
            points = [point.step for point in client.get_metric_history(run.info.run_id, "total_loss")]
            assert len(points) == len(set(points))
            finished = [child for child in children(client, run) if child.info.status == "FINISHED"]
            assert len(finished) == (run.info.status == "FINISHED")
    assert not [run for run in client.search_runs([top.info.experiment_id], max_results=5000) if run.info.status == "RUNNING"]
