"""The embedded StarGAN experiment as it is shipped: minutes, so not in the ordinary suite."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.runs.command import fashion_ml


@pytest.mark.timeout(1800)  # on one core 11 minutes of steps
def test_patterns_are_taken_and_shapes_are_kept(workdir: Path):
    uri = os.environ["MLFLOW_TRACKING_URI"]
    result = fashion_ml("train", "stargan", "--json", "facts.json", cwd=workdir, uri=uri, OMP_NUM_THREADS="2")
    assert result.returncode == 0, result.stderr
    evaluation = json.loads((workdir / "facts.json").read_text(encoding="utf-8"))["evaluation"]
    scores = {name: entry["mean"] for name, entry in evaluation["metrics"].items()}
    assert scores["domain_accuracy"] >= 0.75
    assert scores["latent_domain_accuracy"] >= 0.75
    assert scores["ssim"] >= 0.5
    assert scores["latent_ssim"] >= 0.5
    assert scores["diversity"] > 0.05
    assert evaluation["by_target"]["domain_accuracy_unchanged"] <= 0.1  # it is the translation that does it
    assert evaluation["by_target"]["domain_accuracy_real"] >= 0.9  # and the encoder that can tell
