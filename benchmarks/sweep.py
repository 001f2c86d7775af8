"""What a sweep costs beside its trainings: `python -m benchmarks.sweep [--trials N]`.

`fashion-ml sweep` with small trainings, one worker: seconds of a trial outside its training process, and between the end of one trial and the
beginning of the next (times of the study's storage); the whole command, and how much of it its trainings were.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import optuna

from benchmarks.results import Row, report

PROJECT = Path(__file__).parents[1]


def _seconds(begun: datetime | None, ended: datetime | None) -> float:
    assert begun is not None
    assert ended is not None
    return (ended - begun).total_seconds()


def main() -> None:
    """Run it and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=4)
    trials = parser.parse_args().trials
    spec = {
        "name": "overhead",
        "trainer": "lora",
        "experiment": str(PROJECT / "experiments" / "lora" / "embedded.yaml"),
        "settings": {
            "training.max_train_steps": 10,
            "evaluation.max_references": 4,
            "evaluation.images_per_reference": 1,
            "evaluation.num_inference_steps": 4,
            "evaluation.prompts": "none",
        },
        "search_space": {"network.rank": {"type": "categorical", "choices": [2, 4, 8, 16]}},
        "objectives": [{"metric": "weighted_total_loss"}],
        "sampler": {"name": "random", "seed": 0},
        "trials": trials,
        "confirm": {"best": 0},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sweep.yaml").write_text(json.dumps(spec), encoding="utf-8")
        command = [sys.executable, "-m", "fashion_ml", "sweep", "sweep.yaml", "--workers", "1"]
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "PYTHONPATH": str(PROJECT)}
        start = time.perf_counter()
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        total = time.perf_counter() - start
        if result.returncode:
            raise SystemExit(result.stderr[-3000:])
        found = optuna.load_study(study_name="overhead", storage=f"sqlite:///{next(folder.rglob('study.db'))}").trials
    inside = [float(trial.user_attrs["process_seconds"]) for trial in found]
    outside = [
        _seconds(trial.datetime_start, trial.datetime_complete) - spent for trial, spent in zip(found, inside, strict=True)
    ]
    between = [_seconds(before.datetime_complete, after.datetime_start) for before, after in pairwise(found)]
    report(
        [
            Row(f"a trial of a sweep, median of {trials}", f"{statistics.median(outside):.2f} s outside its training process"),
            Row("from a trial's end to the next one's beginning", f"{statistics.median(between):.2f} s"),
            Row("the whole command", f"{total:.0f} s, {sum(inside):.0f} s of it trainings and their evaluations"),
        ]
    )


if __name__ == "__main__":
    main()
