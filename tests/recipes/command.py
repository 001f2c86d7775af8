"""The real command line, run in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHORT = ["--steps", "6", "--rank", "4", "--alpha", "2", "--lr", "1e-3", "--seed", "7"]
FEW = [
    *("--set", "training.log_every=2", "--set", "evaluation.max_references=2"),
    *("--set", "evaluation.num_inference_steps=2", "--set", "evaluation.resamples=50"),
]

Command = Callable[..., list[str]]
"""Takes a command line that is refused, returns its error lines."""


@dataclass(frozen=True)
class Finished:
    """A run of the command line that ended well."""

    folder: Path
    facts: dict[str, Any]
    stdout: str
    stderr: str
    uri: str


def fashion_ml(*arguments: str, cwd: Path, uri: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "fashion_ml", *arguments],
        cwd=cwd,
        env={**os.environ, "MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
