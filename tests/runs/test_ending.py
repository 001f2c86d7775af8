"""A run that was killed when everything was done and its end was not told: --resume, sync and doctor bring it to one and the same end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fashion_ml.config import load_config
from fashion_ml.config.shipped_files import default_experiment
from fashion_ml.runs.ending import close_dead_runs, come_to_end, lacks_end, remove_not_begun
from fashion_ml.runs.run_folder import RunFolder, read_run_folder, write_run_folder
from fashion_ml.runs.sync import everywhere
from fashion_ml.runtime.process_id import own_process
from fashion_ml.tracking.run import FOLDER_TAG, attach_id
from fashion_ml.tracking.store import open_tracking, shown_uri, store_uri
from tests.runs.chinese import english
from tests.runs.command import fashion_ml


def killed(folder: Path, *, sent: bool, finished: bool = True, tagged: bool = True) -> str:
    """A training's folder and run as `kill -9` leaves them behind its last note, or before that; its id."""
    host, _, _ = own_process().partition("/")
    tags = {"kind": "train_lora", "process": f"{host}/999999999/1.0"}
    client = open_tracking()
    run_id = str(client.create_run("0", tags=tags | ({FOLDER_TAG: str(folder)} if tagged else {})).info.run_id)
    folder.mkdir(parents=True)
    (folder / "lora.safetensors").write_bytes(b"weights")
    (folder / "facts.json").write_text(json.dumps({"run_id": run_id, "training_seconds": 3.0}))
    run = attach_id(run_id)
    run.spool_to(folder)
    with_child = run.child("evaluation", {"kind": "evaluation"})
    with_child.log_metrics({"color_loss": 0.25})
    with_child.finish()
    for step in range(1, 5):
        run.log_metrics({"total_loss": 1 / step}, step=step)
    run.log_file(folder / "lora.safetensors", "lora")
    if sent:
        run.close_spool()
    else:  # as if its store had been away
        run.client.spool.close(0)
        (folder / "spool" / "position.json").unlink(missing_ok=True)
    config = load_config(str(default_experiment("experiments/lora/embedded.yaml")), {"training.max_train_steps": 4})
    write_run_folder(RunFolder(folder, run_id, shown_uri(store_uri()), "digest", finished=finished), config)
    return run_id


def assert_whole(run_id: str, status: str = "FINISHED") -> None:
    client = MlflowClient(store_uri())
    run = client.get_run(run_id)
    assert run.info.status == status
    assert ("error" in run.data.tags) == (status != "FINISHED")
    assert [point.step for point in client.get_metric_history(run_id, "total_loss")] == [1, 2, 3, 4]
    assert [one.path for one in client.list_artifacts(run_id, "lora")] == ["lora/lora.safetensors"]
    (child,) = client.search_runs(["0"], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert (child.info.status, child.data.metrics) == ("FINISHED", {"color_loss": 0.25})


def by_resume(folder: Path) -> str:
    command = ("train", "lora", "--steps", "4", "--output-dir", str(folder), "--resume", "--json", "facts.json")
    result = fashion_ml(*command, cwd=Path.cwd(), uri=store_uri())
    assert result.returncode == 0, result.stderr
    assert json.loads(Path("facts.json").read_text())["training_seconds"] == 3.0
    refused = fashion_ml(*command, cwd=Path.cwd(), uri=store_uri())
    assert refused.returncode == 2
    assert "is finished; give more max_train_steps than 4" in refused.stderr
    return result.stdout


def by_sync(folder: Path) -> str:
    result = fashion_ml("sync", cwd=Path.cwd(), uri=store_uri())
    assert result.returncode == 0, result.stderr
    again = fashion_ml("--lang", "zh-TW", "sync", cwd=Path.cwd(), uri=store_uri())
    assert "沒有等待送出的內容。" in again.stdout
    assert english(again.stdout + again.stderr) == []
    return result.stdout


def by_doctor(folder: Path) -> str:
    return fashion_ml("doctor", "--close-runs", cwd=Path.cwd(), uri=store_uri()).stdout


@pytest.mark.parametrize("sent", [True, False], ids=["all sent", "nothing sent"])
@pytest.mark.parametrize(
    ("bring", "said"),
    [(by_resume, "its end is in the store now"), (by_sync, "ended now"), (by_doctor, "1 runs closed")],
    ids=["resume", "sync", "doctor"],
)
def test_what_was_killed_behind_its_last_note_is_finished(workdir: Path, bring: Callable[[Path], str], said: str, sent: bool):
    folder = workdir / "elsewhere" / "out"
    run_id = killed(folder, sent=sent)
    note = read_run_folder(folder)
    assert note is not None
    assert lacks_end(note)
    assert everywhere().folders == [folder], "not below outputs/, and known to the store"
    assert said in bring(folder)
    assert_whole(run_id)
    assert not lacks_end(note)
    assert everywhere().folders == []


def test_one_of_which_not_all_was_done_is_killed_with_all_its_points(workdir: Path):
    run_id = killed(workdir / "out", sent=False, finished=False)
    assert close_dead_runs() == 1
    assert_whole(run_id, "KILLED")


def test_a_folder_that_the_store_does_not_know_is_found_below_outputs_by_its_run(workdir: Path):
    run_id = killed(workdir / "out", sent=False, tagged=False)
    (workdir / "outputs" / "lora").mkdir(parents=True)
    (workdir / "out").rename(workdir / "outputs" / "lora" / run_id)
    assert close_dead_runs() == 1
    assert_whole(run_id)


def test_doctor_leaves_a_whole_run_that_cannot_be_sent_now(workdir: Path, monkeypatch: pytest.MonkeyPatch):
    run_id = killed(workdir / "out", sent=False)
    with monkeypatch.context() as away:
        away.setattr("fashion_ml.runs.ending.send_rest", lambda *_: False)
        assert close_dead_runs() == 0
    assert MlflowClient(store_uri()).get_run(run_id).info.status == "RUNNING"
    assert close_dead_runs() == 1
    assert_whole(run_id)


def test_the_end_may_be_brought_about_as_often_as_one_likes(workdir: Path):
    run_id = killed(workdir / "out", sent=False)
    note = read_run_folder(workdir / "out")
    assert note is not None
    assert [come_to_end(note).ended for _ in range(3)] == [True, False, False]
    assert_whole(run_id)
    ends = (workdir / "out" / "spool" / "operations.jsonl").read_text().count('"do":"end","run":"' + run_id)
    assert ends == 1


@pytest.mark.parametrize("there", ["run.json", "config.yaml"])
def test_a_training_that_was_killed_between_its_first_two_files_begins_by_resume(workdir: Path, there: str):
    tiny = ["--steps", "2", "--rank", "2", "--resolution", "32", "--no-evaluate", "--output-dir", "out"]
    uri = os.environ["MLFLOW_TRACKING_URI"]
    (workdir / "out").mkdir()
    if there == "run.json":
        run_id = open_tracking().create_run("0", tags={"kind": "train_lora"}).info.run_id
        note = {"run_id": run_id, "tracking_uri": shown_uri(store_uri()), "data_digest": "", "finished": False}
        (workdir / "out" / there).write_text(json.dumps(note))
    else:
        (workdir / "out" / there).write_text("")
    result = fashion_ml("train", "lora", *tiny, "--resume", cwd=workdir, uri=uri)
    assert result.returncode == 0, result.stderr
    found = read_run_folder(workdir / "out")
    assert found is not None
    assert found.finished
    assert there == "config.yaml" or found.run_id == run_id
    run = MlflowClient(uri).get_run(found.run_id)
    assert (run.info.status, run.data.params["training.max_train_steps"]) == ("FINISHED", "2")


def made(kind: str, folder: str, *, alive: bool = False, **more: str) -> str:
    """A run in the store as a process has made it before it wrote anything; its id."""
    host, _, _ = own_process().partition("/")
    tags = {"kind": kind, FOLDER_TAG: folder, "process": own_process() if alive else f"{host}/999999999/1.0", **more}
    return str(open_tracking().create_run("0", tags=tags).info.run_id)


@pytest.mark.parametrize("by", [close_dead_runs, partial(remove_not_begun, "Default")])
def test_a_run_that_was_killed_before_its_first_file_is_removed(workdir: Path, by: Callable[[], int]):
    """Not one of a process that lives, that holds something, that its folder knows, that a sweep is to answer for, or that has runs below."""
    empty = [made("train_lora", str(workdir / "out")), made("train_stargan", str(workdir / "outputs" / "lora"))]
    empty += [made("sweep", str(workdir)), made("suite", str(workdir))]
    alive, other = made("train_lora", str(workdir / "out"), alive=True), made("sweep", str(workdir))
    made("evaluation", "", alive=True, **{"mlflow.parentRunId": other})
    trial, full = made("train_lora", "out", **{"mlflow.parentRunId": alive}), made("train_lora", str(workdir / "full"))
    attach_id(full).log_params({"training.seed": 1})
    known = [made("train_lora", str(workdir / "known")), made("train_lora", str(workdir / "outputs" / "lora"))]
    for run_id, folder in zip(known, (workdir / "known", workdir / "outputs" / "lora" / known[1]), strict=True):
        folder.mkdir(parents=True)
        write_run_folder(RunFolder(folder, run_id, shown_uri(store_uri()), "", finished=False))
    by()
    client = MlflowClient(store_uri())
    there = {run.info.run_id for run in client.search_runs(["0"])}
    assert there - {run.info.run_id for run in client.search_runs(["0"], "tags.kind = 'evaluation'")} == {
        *(alive, other, trial, full),
        *known,
    }
    assert {client.get_run(run_id).info.lifecycle_stage for run_id in empty} == {"deleted"}


def test_a_training_removes_what_an_earlier_start_of_it_has_left_in_the_store(workdir: Path):
    left = made("train_lora", str((workdir / "out").absolute()))
    tiny = ("--steps", "1", "--rank", "2", "--resolution", "32", "--no-evaluate", "--set", "tracking.experiment=Default")
    result = fashion_ml("train", "lora", *tiny, "--output-dir", "out", cwd=workdir, uri=store_uri())
    assert result.returncode == 0, result.stderr
    assert f"nothing was in them: {left}" in " ".join(result.stderr.split()) + " ".join(result.stdout.split())
    (run,) = MlflowClient(store_uri()).search_runs(["0"])
    assert run.info.status == "FINISHED"
