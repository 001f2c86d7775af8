"""Runs whose process was killed when everything had been sent: sync finds them by itself, and leaves those alone that still live."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient

from fashion_ml.runs.run_folder import RunFolder, write_run_folder
from fashion_ml.runs.sync import unsent
from fashion_ml.runtime.process_id import own_process
from fashion_ml.tracking.store import open_tracking, shown_uri, store_uri
from tests.runs.command import fashion_ml


def begun(workdir: Path, process: str) -> tuple[Path, str]:
    """A run and its folder as a training leaves them when it is killed a while after its last point."""
    from fashion_ml.tracking.run import attach_id

    client = open_tracking()
    run_id = client.create_run("0", tags={"kind": "train_lora", "process": process}).info.run_id
    folder = workdir / "outputs" / run_id
    folder.mkdir(parents=True)
    run = attach_id(run_id)
    run.spool_to(folder)
    run.log_metrics({"total_loss": 0.5}, step=1)
    run.close_spool()
    write_run_folder(RunFolder(folder, run_id, shown_uri(store_uri()), "digest", finished=False))
    return folder, run_id


def test_sync_ends_a_killed_run_that_had_sent_everything(workdir: Path):
    host, _, _ = own_process().partition("/")
    folder, run_id = begun(workdir, f"{host}/999999999/1.0")
    assert unsent(workdir / "outputs") == [folder]
    result = fashion_ml("sync", cwd=workdir, uri=store_uri())
    assert result.returncode == 0, result.stderr
    assert "its process had been killed: ended now" in result.stdout
    run = MlflowClient(store_uri()).get_run(run_id)
    assert (run.info.status, run.data.metrics["total_loss"]) == ("KILLED", 0.5)
    assert unsent(workdir / "outputs") == []


def test_a_damaged_note_of_a_spool_is_no_obstacle(workdir: Path):
    host, _, _ = own_process().partition("/")
    folder, run_id = begun(workdir, f"{host}/999999999/1.0")
    (folder / "spool" / "position.json").write_text('{"sent": 5')
    (folder / "spool" / "refused.jsonl").write_text('{"operation": {"do"')
    result = fashion_ml("sync", cwd=workdir, uri=store_uri())
    assert result.returncode == 0, result.stderr
    points = MlflowClient(store_uri()).get_metric_history(run_id, "total_loss")
    assert [point.value for point in points] == [0.5]
