"""What a sweep costs beside its trainings: `python -m benchmarks.sweep [--trials N]`.

`fashion-ml sweep` with small trainings, one worker: seconds of a trial outside its training process, and between the end of one trial and the
beginning of the next (columns of `trials.csv`; times of the study's storage); the whole command, and how much of it its trainings were.
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
from pathlib import Path

import pandas as pd

from benchmarks.results import Row, report

PROJECT = Path(__file__).parents[1]


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
        table = pd.read_csv(next(folder.rglob("trials.csv")))
    outside = table["seconds"] - table["process_seconds"]
    begun, ended = (pd.to_datetime(table[column]) for column in ("begun", "ended"))
    between = [(after - before).total_seconds() for before, after in zip(ended, begun[1:], strict=False)]
    inside = table["process_seconds"].sum()
    report(
        [
            Row(f"a trial of a sweep, median of {trials}", f"{outside.median():.2f} s outside its training process"),
            Row("from a trial's end to the next one's beginning", f"{statistics.median(between):.2f} s"),
            Row("the whole command", f"{total:.0f} s, {inside:.0f} s of it trainings and their evaluations"),
        ]
    )


if __name__ == "__main__":
    main()
