"""Every file operation of every command as the moment of a kill, or of a full disk: hundreds, so not in the ordinary suite.

KILL_POINTS names some commands, KILL_STEP every how many operations: `KILL_POINTS=lora,sync KILL_STEP=10`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.full.kill_points import SCENARIOS, Harness, Sums

NAMES = os.environ.get("KILL_POINTS", ",".join(SCENARIOS)).split(",")
STEP = int(os.environ.get("KILL_STEP", "1"))


@pytest.mark.timeout(0)
@pytest.mark.parametrize("how", ["kill", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_doubled_unequal_stuck_or_left_over(tmp_path: Path, empty_store: Path, name: str, how: str):
    harness, sums = Harness(name, tmp_path, empty_store), Sums()
    assert harness.operations > 20
    for at in range(1, harness.operations + 1, STEP):
        harness.point(at, sums, how)
    assert (sums.stuck, sums.unlike, sums.left_over) == ([], [], []), str(sums)
