"""What a training's process has imported when its first step is done: none of what only comes later, or never, is needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LATER = {
    *("matplotlib", "skimage", "sklearn", "open_clip", "timm", "lpips", "optuna", "plotly", "ray", "tensorboard"),
    *(
        "bitsandbytes",
        "flask",
        "docker",
        "IPython",
        "torch._inductor.compile_fx",
        "mlflow.pyfunc",
        "mlflow.server",
        "mlflow.diffusers",
    ),
    *("fashion_ml.evaluation.lora", "fashion_ml.evaluation.measure", "fashion_ml.evaluation.artifacts", "fashion_ml.deploy"),
    *("fashion_ml.sweep", "fashion_ml.reports.training_report"),
}
"""Figures, encoders, tables, reports, studies and servers: 200 MiB and seconds."""
TO_THE_FIRST_STEP = """
import json, os, sys
from contextlib import contextmanager
from fashion_ml.cli import main
from fashion_ml.runs import lora

@contextmanager
def measurements(*_, **__):
    yield lambda rows: (list(rows), print(json.dumps(sorted(sys.modules)), flush=True), os._exit(0))

lora.measurements = measurements
main()
"""


def test_a_training_imports_nothing_before_its_first_step_that_it_needs_later_or_never(
    tmp_path: Path, empty_store: Path, collection: Path
):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    shutil.copytree(collection, tmp_path / "outputs" / collection.name)
    given = ["train", "lora", "--steps", "1", "--log_every", "1", "--output-dir", "out"]
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    done = subprocess.run(
        [sys.executable, "-c", TO_THE_FIRST_STEP, *given],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": uri},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    imported = set(json.loads(done.stdout.splitlines()[-1]))
    assert imported & LATER == set()
    assert {"torch", "diffusers", "mlflow", "fashion_ml.training.lora_loop"} <= imported
