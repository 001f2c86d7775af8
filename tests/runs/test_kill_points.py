"""A few of the kill points that tests/full goes through: among the first and the last operations of a command, where runs begin and end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.full.kill_points import Harness, Sums


@pytest.mark.parametrize(("name", "parts"), [("lora", (0.02, 0.5, 0.93)), ("encode", (0.1, 0.9)), ("sync", (0.3, 0.8))])
def test_what_is_killed_goes_on_as_if_never_stopped(tmp_path: Path, empty_store: Path, name: str, parts: tuple[float, ...]):
    harness, sums = Harness(name, tmp_path, empty_store), Sums()
    for part in parts:
        harness.point(int(harness.operations * part) + 1, sums)
    assert (sums.stuck, sums.unlike, sums.left_over) == ([], [], []), str(sums)


def test_a_full_disk_is_a_line_and_the_training_goes_on_when_there_is_space(tmp_path: Path, empty_store: Path):
    harness, sums = Harness("lora", tmp_path, empty_store), Sums()
    harness.point(harness.operations // 2, sums, "full")
    assert (sums.stuck, sums.unlike, sums.left_over) == ([], [], []), str(sums)
