"""Runs whose process was killed when everything had been sent: sync finds them by itself, and leaves those alone that still live."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from fashion_ml.errors import InputError
from fashion_ml.runs.run_folder import RunFolder, write_run_folder
from fashion_ml.runs.sync import folders_of, unsent
from fashion_ml.runtime.process_id import own_process
from fashion_ml.tracking.offline_client import pending_id
from fashion_ml.tracking.run import open_offline_run, open_run
from fashion_ml.tracking.store import open_tracking, shown_uri, store_uri
from tests.fuzz.by_hand import ODD
from tests.runs.command import fashion_ml
from tests.runs.forked import ForkedPopen


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
    assert unsent(workdir / "outputs").folders == [folder]
    result = fashion_ml("sync", cwd=workdir, uri=store_uri())
    assert result.returncode == 0, result.stderr
    assert "its process had been killed: ended now" in result.stdout
    run = MlflowClient(store_uri()).get_run(run_id)
    assert (run.info.status, run.data.metrics["total_loss"]) == ("KILLED", 0.5)
    assert unsent(workdir / "outputs").folders == []


def test_a_folder_that_cannot_be_read_is_not_one_in_which_nothing_waits(workdir: Path, monkeypatch: pytest.MonkeyPatch):
    folder, _ = begun(workdir, own_process())
    scandir, other = os.scandir, workdir / "outputs" / "other"
    other.mkdir()

    def guarded(path: Any = ".") -> Any:
        if Path(path) == other:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    found = folders_of(workdir / "outputs")
    assert [str(other) in problem and "(Permission denied)" in problem for problem in found.problems] == [True]
    assert found.folders == [folder], "the others are sent"
    with pytest.raises(
        InputError, match=r"RUN_DIR: '.*other' cannot be read \(Permission denied\), so what waits there is not sent"
    ):
        folders_of(other)


def test_a_damaged_note_of_a_spool_is_no_obstacle(workdir: Path):
    host, _, _ = own_process().partition("/")
    folder, run_id = begun(workdir, f"{host}/999999999/1.0")
    (folder / "spool" / "position.json").write_text('{"sent": 5')
    (folder / "spool" / "refused.jsonl").write_text('{"operation": {"do"')
    result = fashion_ml("sync", cwd=workdir, uri=store_uri())
    assert result.returncode == 0, result.stderr
    points = MlflowClient(store_uri()).get_metric_history(run_id, "total_loss")
    assert [point.value for point in points] == [0.5]


def offline(folder: Path, points: int = 3) -> Path:
    """A training's folder with an evaluation below it, kept offline, as a training leaves it; `points` of each metric."""
    run_id = pending_id()
    folder.mkdir(parents=True)
    (folder / "lora.safetensors").write_bytes(b"weights")
    tags = {"kind": "train_lora"}
    with open_offline_run(folder.name, tags, folder, run_id, experiment="fashion_ml", chosen=(), resume=False) as run:
        for step in range(points):
            run.log_metrics({"total_loss": 1 / (step + 1)}, step=step)
            run.flush()
        run.log_file(folder / "lora.safetensors", "lora")
        with open_run("evaluation", {"kind": "evaluation"}, parent=run) as below:
            below.log_metrics({"color_loss": 0.25})
    write_run_folder(RunFolder(folder, run_id, "", "digest", finished=True))
    return folder


def sync(*folders: Path, code: int = 0) -> str:
    result = fashion_ml("sync", *map(str, folders), cwd=Path.cwd(), uri=store_uri())
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout + result.stderr


def runs_of(client: MlflowClient, kind: str) -> list[str]:
    there = [one.experiment_id for one in client.search_experiments()]
    return [run.info.run_id for run in client.search_runs(there, f"tags.kind = '{kind}'")]


def test_a_sync_that_is_killed_in_the_middle_goes_on_with_every_point_once(workdir: Path):
    folder, points = offline(workdir / "out", 7000), 7000
    command = [sys.executable, "-m", "fashion_ml", "sync", str(folder)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store_uri()}
    process = ForkedPopen(command, env=environment, cwd=workdir)
    size, sent, limit = (folder / "spool" / "operations.jsonl").stat().st_size, 0, time.monotonic() + 120
    while not sent and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)
        note = folder / "spool" / "position.json"
        sent = json.loads(note.read_text())["sent"] if note.is_file() else 0
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < sent < size, "killed in the middle"
    assert "everything is in the store" in sync(folder)
    client = MlflowClient(store_uri())
    (training,), (evaluation,) = runs_of(client, "train_lora"), runs_of(client, "evaluation")
    there = client._tracking_client.store.get_metric_history(training, "total_loss")
    assert Counter(point.step for point in there) == dict.fromkeys(range(points), 1)
    assert client.get_run(evaluation).data.tags["mlflow.parentRunId"] == training
    assert {client.get_run(one).info.status for one in (training, evaluation)} == {"FINISHED"}
    assert [item.path for item in client.list_artifacts(training, "lora")] == ["lora/lora.safetensors"]


def test_a_folder_that_cannot_be_sent_is_said_last_and_the_others_are_sent(workdir: Path):
    first, other, damaged, last = (offline(workdir / "runs" / name) for name in ("a", "b", "c", "d"))
    note = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**note, "tracking_uri": "sqlite:////elsewhere/mlflow.db"}))
    (damaged / "run.json").write_text('{"run_id": "pend')
    said = sync(first, workdir / "none", other, damaged, last, code=2)
    assert said.count("everything is in the store") == 2
    assert len(runs_of(MlflowClient(store_uri()), "train_lora")) == 2
    for part in ("none' does not exist", "b' is in sqlite:////elsewhere/mlflow.db; set MLFLOW", "run.json' is damaged"):
        assert part in said
    assert sync(workdir / "runs", code=2).count("error: ") == 2  # found below a folder


@pytest.mark.parametrize("odd", ["folder", "pipe", "endless", "loop", "empty", "zeros"])
@pytest.mark.parametrize("below", [False, True])
def test_a_note_that_is_no_file_is_one_line(workdir: Path, odd: str, below: bool):
    folder = offline(workdir / "runs" / "a")
    (folder / "run.json").unlink()
    ODD[odd](folder / "run.json")
    said = sync(workdir / "runs" if below else folder, code=2)
    assert said.count("error: ") == 1
    assert f"RUN_DIR: '{folder / 'run.json'}' is damaged" in said


@pytest.mark.parametrize(
    "damage", ['{"do":"batch","ru', '{"do":"batch","ru\n', "\0\0\0\0\n"], ids=["cut", "half a line", "zeros"]
)
def test_a_damaged_last_line_is_left_out_and_said(workdir: Path, damage: str):
    folder = offline(workdir / "out")
    with (folder / "spool" / "operations.jsonl").open("a") as file:
        file.write(damage)
    said = sync(folder)
    assert "the last line is damaged, as a crash leaves it, and is left out" in said
    assert "everything is in the store" in said


def test_a_damaged_line_in_the_middle_goes_aside_and_all_others_are_sent(workdir: Path):
    folder = offline(workdir / "out")
    path = folder / "spool" / "operations.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1][:20] + "\n", *lines[2:]]))
    said = sync(folder)
    assert f"{path}: the record at byte {len(lines[0])} is damaged, which is no fault of The tracking store" in said
    assert "everything is in the store" in said
    client = MlflowClient(store_uri())
    (run_id,) = runs_of(client, "train_lora")
    assert client.get_run(run_id).info.status == "FINISHED"
    assert [json.loads(line)["record"] for line in (folder / "spool" / "set_aside.jsonl").read_text().splitlines()] == [
        lines[1][:20]
    ]


DEEP = "[" * 200_000 + "]" * 200_000


@pytest.mark.parametrize("place", ["first", "middle", "last", "position", "refused"])
def test_what_is_nested_too_deep_is_the_folders_fault_and_all_else_is_sent(workdir: Path, place: str):
    folder, began = offline(workdir / "out"), time.monotonic()
    spool = folder / "spool"
    lines = (spool / "operations.jsonl").read_text().splitlines(keepends=True)
    at = {"first": 0, "middle": 3, "last": len(lines)}.get(place)
    if at is not None:
        (spool / "operations.jsonl").write_text("".join([*lines[:at], DEEP + "\n", *lines[at:]]))
    elif place == "position":
        (spool / "position.json").write_text('{"sent": ' + DEEP + "}")
    else:
        (spool / "refused.jsonl").write_text('{"operation": ' + DEEP + "}\n")
    said = sync(folder)
    assert "everything is in the store" in said
    assert "does not answer" not in said
    assert time.monotonic() - began < 20
    assert (spool / "set_aside.jsonl").exists() == (place in ("first", "middle"))
    client = MlflowClient(store_uri())
    (run_id,) = runs_of(client, "train_lora")
    assert len(client.get_metric_history(run_id, "total_loss")) == 3


def test_records_that_no_store_takes_go_aside_at_once_and_cost_no_other(workdir: Path):
    folder, began = offline(workdir / "out"), time.monotonic()
    path = folder / "spool" / "operations.jsonl"
    run = json.loads(path.read_text().splitlines()[0])["run"]
    point = {"do": "batch", "run": run, "metrics": [["z", 1.0, 1, 10**30]]}
    outside = {"do": "file", "run": run, "path": "lora.safetensors", "folder": "../../../../esc.txt"}
    text = {"do": "text", "run": run, "text": "x", "artifact": "../../../../esc.txt"}
    unknown = {"do": "batch", "run": "0123", "metrics": [["z", 1.0, 1, 1]]}
    good = {"do": "batch", "run": run, "metrics": [["goodpoint", 1.0, 1, 7]]}
    with path.open("a") as file:
        file.writelines(json.dumps(one) + "\n" for one in [*[point, outside, text, unknown] * 50, good])
    said = sync(folder)
    assert "everything is in the store" in said
    assert time.monotonic() - began < 20
    assert "does not answer" not in said
    whys = [json.loads(line)["why"] for line in (folder / "spool" / "set_aside.jsonl").read_text().splitlines()]
    assert len(whys) == 4
    assert not (folder / "spool" / "refused.jsonl").exists()
    client = MlflowClient(store_uri())
    (run_id,) = runs_of(client, "train_lora")
    assert [one.step for one in client.get_metric_history(run_id, "goodpoint")] == [7]


def test_a_spool_that_has_lost_its_beginning_is_one_line(workdir: Path):
    folder = offline(workdir / "out")
    path = folder / "spool" / "operations.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    assert "does not begin with its run; it is damaged, or not all of it was copied" in sync(folder, code=2)
    assert runs_of(MlflowClient(store_uri()), "train_lora") == []
