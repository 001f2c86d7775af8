"""A few of the kill points that tests/full goes through: among the first and the last operations of a command, where runs begin and end."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.full.kill_points import Harness, Sums, spread
from tests.full.kill_states import Point, States
from tests.runs.faults import DIED


@pytest.mark.parametrize(("name", "parts"), [("lora", (0.02, 0.5, 0.93)), ("sync", (0.3, 0.8))])
def test_what_is_killed_goes_on_as_if_never_stopped(tmp_path: Path, empty_store: Path, name: str, parts: tuple[float, ...]):
    harness, sums = Harness(name, tmp_path, empty_store), Sums()
    for part in parts:
        harness.point(harness.points[int(len(harness.points) * part)], sums)
    assert sums.faults() == []
    assert sums.run == len(parts)


def test_a_stopped_process_has_in_its_folder_what_a_killed_one_leaves(tmp_path: Path, empty_store: Path):
    harness, sums = Harness("encode", tmp_path, empty_store), Sums()
    for part in (0.1, 0.5, 0.9):
        point = harness.points[int(len(harness.points) * part)]
        assert harness.until(point, "kill")[0] == DIED
        assert harness.left() == harness.left(point)
        harness.point(point, sums)
    assert sums.faults() == []


def test_a_full_disk_is_a_line_and_the_training_goes_on_when_there_is_space(tmp_path: Path, empty_store: Path):
    harness, sums = Harness("lora", tmp_path, empty_store), Sums()
    harness.full(harness.points[len(harness.points) // 2], sums)
    assert sums.faults() == []


def test_states_that_differ_in_what_nobody_reads_are_one(tmp_path: Path):
    folder = tmp_path / "work"
    (folder / "artifacts").mkdir(parents=True)
    states, found = States(folder, tmp_path / "kept"), set[str]()
    for name in (
        ".artifact.uploading.a_b1",
        ".artifact.uploading.zz9",
        ".run.json.15bc72-1-7f.tmp",
        ".run.json.15bc73-2-80.tmp",
    ):
        for content in ("", "half"):
            (folder / "artifacts" / name).write_text(content)
            found.add(states.take())
        (folder / "artifacts" / name).unlink()
    assert len(found) == 2  # MLflow's beside an artifact, and ours beside a file
    assert states.take() not in found


def test_the_first_of_many_points_lie_evenly_over_the_whole():
    points = [Point(number, "open", "a", "b", "c") for number in range(100)]
    found = [point.number for point in spread(points)]
    assert sorted(found) == list(range(100))
    first = sorted(found[:10])
    assert max(after - before for before, after in pairwise(first)) <= 20
