"""The embedded domains, drawn and encoded by two trainings at once: tests/unit/runs/test_stargan_inputs.py has it with few pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_two_trainings_that_begin_together_draw_the_embedded_domains_once(workdir: Path):
    command = [sys.executable, "-m", "fashion_ml", "train", "stargan", "--base_dim", "8", "--epochs", "1", "--epoch_size", "16"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [*command, "--no-evaluate", "--output-dir", name], cwd=workdir, env=environment, stderr=subprocess.PIPE
        )
        for name in ("one", "two")
    ]
    for process in both:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said.decode()
