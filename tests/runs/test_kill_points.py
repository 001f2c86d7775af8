"""A few of the kill points that tests/full goes through: among the first and the last operations of a command, where runs begin and end."""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.full.kill_facts import differences, left_over
from tests.full.kill_points import Harness, Sums, spread
from tests.full.kill_states import Point, States
from tests.runs.faults import DIED, faults
from tests.runs.forked import ForkedPopen, processes
from tests.runs.run_tree import leaves

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Harness:
    return Harness("lora", tmp_path_factory.mktemp("lora"), empty_store)


def test_what_is_killed_goes_on_as_if_never_stopped(lora: Harness):
    sums = Sums()
    for part in (0.02, 0.93):
        lora.point(lora.points[int(len(lora.points) * part)], sums)
    assert sums.faults() == []
    assert sums.run == 2
    assert {"commit", "committed"} <= {point.what for point in lora.points}


def test_what_goes_on_may_be_killed_again(tmp_path: Path, empty_store: Path):
    harness, sums = Harness("sync", tmp_path, empty_store, twice=30), Sums()
    harness.point(harness.points[int(len(harness.points) * 0.4)], sums)
    assert sums.faults() == []
    assert (tmp_path / "note.txt").read_text().startswith("30 ")


def test_a_stopped_process_has_in_its_folder_what_a_killed_one_leaves(tmp_path: Path, empty_store: Path):
    harness, sums = Harness("encode", tmp_path, empty_store), Sums()
    for part in (0.1, 0.5, 0.9):
        point = harness.points[int(len(harness.points) * part)]
        assert harness.until(point, "kill")[0] == DIED
        assert harness.left() == harness.left(point)
        harness.point(point, sums)
    assert sums.faults() == []


def test_a_full_disk_is_a_line_and_the_training_goes_on_when_there_is_space(lora: Harness):
    sums = Sums()
    lora.full(lora.points[len(lora.points) // 2], sums)
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


def begin_another(folder: Path, note: Path, at: int) -> None:
    """In a process of its own: one that makes a store, killed at an operation."""
    faults(folder, note, at, "kill")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    os._exit(ForkedPopen([sys.executable, "-m", "fashion_ml.runs.warm_start", "store"], env=environment, cwd=folder).wait())


def test_processes_that_a_command_begins_are_killed_at_their_operations_too(tmp_path: Path):
    folder, note = tmp_path / "work", tmp_path / "note.txt"
    folder.mkdir()
    one = processes().Process(target=begin_another, args=(folder, note, 2))
    one.start()
    one.join(100)
    assert one.exitcode == DIED
    assert note.read_text().startswith("2 ")


def test_a_metric_run_that_is_there_twice_is_seen_and_one_of_each_evaluation_is_not_one_of_another():
    def evaluation(number: int, *metrics: str) -> dict[str, Any]:
        below = [{"name": name, "points": {"value": [(0, number)]}, "below": []} for name in metrics]
        return {"name": f"evaluation {number}", "points": {}, "below": below}

    def facts(*evaluations: dict[str, Any]) -> dict[str, Any]:
        return {f"{run}, {key}": value for run, key, value in leaves({"name": "a", "points": {}, "below": list(evaluations)})}

    whole = facts(evaluation(1, "ssim", "color"), evaluation(2, "ssim", "color"))
    assert list(differences(whole, facts(evaluation(2, "color", "ssim"), evaluation(1, "ssim", "color")))) == []
    doubled = list(differences(whole, facts(evaluation(1, "ssim", "color", "ssim"), evaluation(2, "ssim", "color"))))
    assert {kind for kind, _ in doubled} == {"doubled"}
    assert all(line.startswith("a/evaluation 1/ssim (2), ") for _, line in doubled)
    assert {kind for kind, _ in differences(whole, facts(evaluation(1, "ssim", "color"), evaluation(2, "color")))} == {"lost"}


def test_what_is_left_over_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    (work / "below").mkdir(parents=True)
    (temporary / "tmp1").mkdir(parents=True)
    for name in (".run.json.15bc72-1-7f.tmp", ".lock", "run.json", "below/.artifact.uploading.ab1"):
        (work / name).write_text("")
    monkeypatch.setattr("tests.full.kill_facts._END_SECONDS", 0.1)
    monkeypatch.setattr("tests.full.kill_facts.still_running", lambda: [7])
    assert sorted(left_over(work, temporary)) == [
        ".lock",
        ".run.json.15bc72-1-7f.tmp",
        "below/.artifact.uploading.ab1",
        "processes [7]",
        "tmp1 in the temporary folder",
    ]


def test_the_first_of_many_points_lie_evenly_over_the_whole():
    points = [Point(number, "open", "a", "b", "c") for number in range(100)]
    found = [point.number for point in spread(points)]
    assert sorted(found) == list(range(100))
    first = sorted(found[:10])
    assert max(after - before for before, after in pairwise(first)) <= 20
