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
    monkeypatch.setattr(local_workers, "cores", lambda: 7)
    monkeypatch.setattr(local_workers, "worker_command", lambda *_: command)
    team = local_workers.LocalWorkers("sweep", tmp_path / "x.yaml", "sqlite://", tmp_path, 2, None)
    team.start(1)
    while team.poll(1) is None:
        time.sleep(0.05)
    assert (tmp_path / "worker_1.log").read_text(encoding="utf-8").strip() == threads


GPU = "GPU-8f3c2d1e-5a7b-4c6d-9e0f-1a2b3c4d5e6f"
MIG = "MIG-2b8e3a77-6a1c-5b1e-a2f0-4d1c7a90f3e5"


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("0,2", ["0", "2"]),
        (" 1 , 0", ["1", "0"]),
        (f"{GPU},{MIG}", [GPU, MIG]),
        ("MIG-GPU-8f3c2d1e/1/0", ["MIG-GPU-8f3c2d1e/1/0"]),
        ("0,-1,1", ["0"]),
        ("-1", []),
        ("", []),
    ],
)
def test_gpus_are_read_by_number_uuid_and_mig_as_cuda_reads_them(monkeypatch: pytest.MonkeyPatch, given: str, names: list[str]):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert local_workers.visible_gpus() == names


def test_each_worker_sees_its_own_gpu_by_the_name_that_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    command = [sys.executable, "-c", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"3,{GPU},{MIG}")
    monkeypatch.setattr(local_workers, "worker_command", lambda *_: command)
    team = local_workers.LocalWorkers("sweep", tmp_path / "x.yaml", "sqlite://", tmp_path, None, None)
    assert team.size == 3
    for number in range(3):
        team.start(number)
    while any(team.poll(number) is None for number in range(3)):
        time.sleep(0.05)
    logs = [(tmp_path / f"worker_{number}.log").read_text(encoding="utf-8").strip() for number in range(3)]
    assert logs == ["3", GPU, MIG]


def test_what_workers_have_of_the_gpus_memory_is_said():
    assert local_workers.shares_of([], 4) == ""
    assert local_workers.shares_of(["0", GPU], 2).startswith("Each worker has a GPU of its own and all the memory")
    shared = local_workers.shares_of(["0", "1"], 5)
    assert shared.startswith("Up to 3 workers share a GPU (CUDA_VISIBLE_DEVICES 0, 1)")
    assert shared.endswith("--workers 2 gives each a GPU of its own")
