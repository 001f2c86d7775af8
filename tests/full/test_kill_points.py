"""Operations on files of every command as the moment of a kill, or of a full disk: hundreds, so not in the ordinary suite.

The first and the last operation of each kind; `KILL_ALL=1` takes all of them, KILL_POINTS names some commands: `KILL_POINTS=lora,sync`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.full.kill_points import Harness, Sums
from tests.full.kill_scenarios import SCENARIOS
from tests.runs.faults import TAKES_SPACE

NAMES = os.environ.get("KILL_POINTS", ",".join(SCENARIOS)).split(",")
ALL = os.environ.get("KILL_ALL") == "1"
MOMENTS = 30


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", NAMES)
def test_a_kill_loses_doubles_and_leaves_nothing(tmp_path: Path, empty_store: Path, name: str):
    harness, sums = Harness(name, tmp_path, empty_store), Sums()
    assert len(harness.points) > 20
    for point in harness.distinct(harness.points if ALL else harness.of_each_kind(harness.points)):
        harness.point(point, sums)
    assert sums.faults() == []


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_loses_doubles_and_leaves_nothing(tmp_path: Path, empty_store: Path, name: str):
    harness, sums = Harness(name, tmp_path, empty_store), Sums()
    points = [point for point in harness.points if point.what in TAKES_SPACE]
    for point in points if ALL else harness.of_each_kind(points):
        harness.full(point, sums)
    assert sums.faults() == []


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", NAMES)
def test_a_kill_at_a_random_moment_loses_doubles_and_leaves_nothing(tmp_path: Path, empty_store: Path, name: str):
    harness, sums = Harness(name, tmp_path, empty_store), Sums()
    harness.moments(MOMENTS, sums)
    assert sums.faults() == []
