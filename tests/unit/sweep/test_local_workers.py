"""What a worker of this machine is started with."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from fashion_ml.sweep import local_workers


@pytest.mark.parametrize(("given", "threads"), [("", "3"), ("5", "5")])
def test_workers_share_the_cores_unless_the_user_says_how_many_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, threads: str
):
    """Seven cores and two workers."""
    command = [sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"]
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setattr(local_workers, "_cores", lambda: 7)
    monkeypatch.setattr(local_workers, "worker_command", lambda *_: command)
    team = local_workers.LocalWorkers("sweep", tmp_path / "x.yaml", "sqlite://", tmp_path, 2, None)
    team.start(1)
    while team.poll(1) is None:
        time.sleep(0.05)
    assert (tmp_path / "worker_1.log").read_text(encoding="utf-8").strip() == threads
