"""The real command line, run in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

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


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(port: int, log: Path) -> None:
    """Wait until the MLflow server on a port answers; its log is shown when it does not."""
    deadline = time.monotonic() + 120
    while True:
        try:
            urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
            return
        except OSError:
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.3)
