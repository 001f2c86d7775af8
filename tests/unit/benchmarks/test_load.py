"""The load benchmark counts points by run, and its parts run small."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import load
from benchmarks.load import Counted, counted, over_points, write_images
from fashion_ml.tracking.store import open_tracking


def logged(workdir: Path, steps: list[int]) -> None:
    client = open_tracking()
    run = client.create_run("0", tags={"kind": "train_lora"}).info.run_id
    for number, step in enumerate(steps):
        client.log_metric(run, "total_loss", 0.5, timestamp=number + 1, step=step)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([[1, 2, 3], [1, 2, 3]], Counted(2, 0, 0, 0)),
        ([[1, 2, 2, 3], [1, 3]], Counted(2, 1, 1, 0)),
        ([[1, 2, 3]], Counted(1, 3, 0, 0)),
        ([[1, 2, 3, 4], [0, 1, 2]], Counted(2, 1, 0, 2)),
        ([[1, 2, 3], [1, 2, 3], [1, 2, 3]], Counted(3, 0, 0, 3)),
    ],
    ids=["all", "a doubled one hides no lost one", "a run is missing", "other steps", "a run too many"],
)
def test_points_are_counted_run_by_run(workdir: Path, runs: list[list[int]], expected: Counted):
    for steps in runs:
        logged(workdir, steps)
    assert counted(workdir, 2, 3, ["total_loss"]) == expected


def test_points_go_through_an_outbox_and_are_counted(monkeypatch: pytest.MonkeyPatch):
    """The commands themselves are named; writing and sending are done by the functions behind them."""
    commands = []

    def used(command: list[str], folder: Path) -> load.Used:
        from fashion_ml.runs.sync import sync_folders

        commands.append(command)
        with monkeypatch.context() as there:
            there.chdir(folder)
            there.setenv("MLFLOW_TRACKING_URI", load._store(folder))
            if "--write" in command:
                load.write_points(int(command[-1]))
            else:
                assert [one.sent for one in sync_folders([folder / "out"], 10)] == [True]  # type: ignore[union-attr]
        return load.Used(1.0, 0.5, 100.0)

    monkeypatch.setattr(load, "used", used)
    written, sent = over_points(60)
    assert commands == [["benchmarks.load", "--write", "60"], ["fashion_ml", "sync", "out"]]
    assert "a point " in written.ours
    assert sent.ours.endswith("1 runs, 0 points lost, 0 doubled, 0 of steps that were not")


def test_images_are_of_different_sizes_each_with_a_caption_of_its_own(tmp_path: Path):
    write_images(tmp_path, 8)
    captions = {path.read_text() for path in tmp_path.rglob("*.txt")}
    assert len(captions) == len(list(tmp_path.rglob("*.jpg"))) == 8
    assert len({path.stat().st_size for path in tmp_path.rglob("*.jpg")}) > 1
