"""What Wilcoxon pruning saves: `python -m benchmarks.sweep_pruning [--trials N] [--steps N] [--workers N]`.

The same random settings (those of sweeps/lora_rank_lr.yaml) are searched twice, without a pruner and with the Wilcoxon signed-rank
test on the scores of single images. Printed are the images that were generated and measured, the best settings of both, and, because trials
of equal settings and seeds are equal, the pruned sweep's choice among the unpruned sweep's numbers: paired by reference with its best.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from fashion_ml.metrics.bootstrap import bootstrap_mean
from fashion_ml.runtime.console import say

PROJECT = Path(__file__).parents[1]
SPACE = {
    "network.rank": {"type": "categorical", "choices": [2, 4, 8, 16, 32]},
    "optimizer.learning_rate": {"type": "float", "low": 3e-4, "high": 1e-2, "log": True},
}


def sweep(folder: Path, pruner: str, trials: int, steps: int, workers: int) -> dict[str, Any]:
    """Run one sweep; its facts."""
    folder.mkdir()
    spec = {
        "name": pruner,
        "trainer": "lora",
        "experiment": str(PROJECT / "experiments" / "lora" / "embedded.yaml"),
        "settings": {
            "training.max_train_steps": steps,
            "evaluation.images_per_reference": 3,
            "evaluation.num_inference_steps": 10,
            "evaluation.prompts": "none",
            "evaluation.batch_size": 4,
        },
        "search_space": SPACE,
        "objectives": [{"metric": "weighted_total_loss"}],
        "sampler": {"name": "random"},
        "pruner": {"name": pruner},
        "trials": trials,
        "confirm": {"best": 0},
    }
    (folder / "sweep.yaml").write_text(json.dumps(spec), encoding="utf-8")
    command = [sys.executable, "-m", "fashion_ml", "sweep", "sweep.yaml", "--workers", str(workers), "--json", "facts.json"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "PYTHONPATH": str(PROJECT)}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(result.stderr[-3000:])
    return dict(json.loads((folder / "facts.json").read_text(encoding="utf-8")))


def images_measured(folder: Path, name: str) -> dict[int, int]:
    """By trial, how many images of the LoRA were generated and measured."""
    counts = {}
    for path in sorted((folder / "outputs" / "sweeps" / name / "trials").glob("trial_*/seed_0/watched.jsonl")):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        counts[int(path.parts[-3].removeprefix("trial_"))] = sum(line["kind"] == "image" for line in lines)
    return counts


def scores(folder: Path, name: str, trial: int) -> pd.Series:
    """weighted_total_loss by reference, of a trial that was evaluated to its end."""
    place = folder / "outputs" / "sweeps" / name / "trials" / f"trial_{trial:04d}" / "seed_0" / "run" / "evaluation"
    table = pd.read_csv(place / "per_image.csv")
    return table.groupby("reference")["weighted_total_loss"].mean()


def main() -> None:
    """Print both sweeps' images and choices."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("trials", 20), ("steps", 100), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        chosen, total = {}, {}
        for pruner in ("none", "wilcoxon"):
            facts = sweep(Path(place) / pruner, pruner, arguments.trials, arguments.steps, arguments.workers)
            images = images_measured(Path(place) / pruner, pruner)
            total[pruner], chosen[pruner] = sum(images.values()), facts["best"][0]
            say(
                f"{pruner}: {facts['complete']} complete, {facts['pruned']} pruned, {total[pruner]} images: {list(images.values())}"
            )
            say(f"{pruner}: best trial {chosen[pruner]['slot']}, {chosen[pruner]['values'][0]:.4f}, {chosen[pruner]['params']}")
        best, other = (scores(Path(place) / "none", "none", chosen[pruner]["slot"]) for pruner in ("none", "wilcoxon"))
        gain = bootstrap_mean((other - best).tolist(), resamples=2000)
        say(
            f"share of the images {total['wilcoxon'] / total['none']:.2f}; the pruned sweep's choice is worse than the unpruned sweep's by "
            f"{gain.mean:.4f} {gain.ends or ''} (paired by {len(best)} references)"
        )


if __name__ == "__main__":
    main()
