"""An installation from a wheel looks at all that a sweep and a suite would read, and says what they would do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.contract.test_wheel import command, sources, wheel

__all__ = ["command", "sources", "wheel"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sweep", "sweeps/lora_rank_lr.yaml"], "Sweep lora_rank_lr: 12 trials of train lora"),
        (["suite", "suites/lora_rank.yaml"], "Suite lora_rank: 3 recipes x seeds 0, 1, 2: 9 trainings"),
    ],
)
def test_a_study_that_came_with_it_is_dry_run_in_an_empty_folder(
    command: Path, tmp_path: Path, arguments: list[str], says: str
):
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [command, *arguments, "--dry-run"], cwd=tmp_path, env=own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert says in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []
