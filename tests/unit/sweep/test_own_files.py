"""What a study opens in its folder is a file of that folder, and a note that is damaged costs no more than a training."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fashion_ml.config import load_sweep
from fashion_ml.errors import InputError
from fashion_ml.runtime.own_file import open_log
from fashion_ml.sweep import local_workers
from fashion_ml.sweep.confirm import _run_of
from fashion_ml.sweep.launch import study_lock
from fashion_ml.sweep.own_folder import is_of, noted_text, own_folder, say_damaged
from fashion_ml.sweep.plan import storage_url, study_folder
from fashion_ml.sweep.study import open_study
from fashion_ml.sweep.trial import TrainingProcess, run_training
from tests.unit.sweep.test_study import written

OPENED = [
    *("study.db", "study.db-wal", "study.db-shm", "study.db-journal", "worker_0.log", "worker_12.log"),
    *("trials/trial_0001/seed_0/log.txt", "confirm/default/seed_5/training.lock"),
]


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASHION_ML_STORAGE", raising=False)
    return load_sweep(written(tmp_path), {})


def put(path: Path, odd: str, theirs: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if odd == "pipe":
        os.mkfifo(path)
    elif odd == "folder":
        path.mkdir()
    else:
        path.symlink_to(theirs)


@pytest.mark.parametrize("odd", ["link", "pipe", "folder"])
@pytest.mark.parametrize("name", OPENED)
def test_what_is_opened_in_a_studys_folder_is_a_file_of_it(spec: Any, tmp_path: Path, name: str, odd: str):
    (tmp_path / "theirs").write_bytes(b"theirs")
    path = study_folder(spec[0]) / name
    put(path, odd, tmp_path / "theirs")
    with pytest.raises(InputError) as caught, study_lock(spec[0]):
        pass
    assert caught.value.problems == [
        f"SPEC: '{path}' cannot be written ({path.name} is a link, a pipe or a device); move it away"
    ]
    assert (tmp_path / "theirs").read_bytes() == b"theirs"


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("name", ["study.db", "study.db-journal"])
def test_no_table_is_written_where_a_link_leads(spec: Any, tmp_path: Path, name: str, create: bool):
    """Also by a worker or a report, which take no lock."""
    with sqlite3.connect(tmp_path / "theirs.db") as theirs:
        theirs.execute("create table mine (x)")
    theirs.close()
    before = (tmp_path / "theirs.db").read_bytes()
    put(study_folder(spec[0]) / name, "link", tmp_path / "theirs.db")
    with pytest.raises(InputError, match=rf"SPEC: '.*/{name}' cannot be written"):
        open_study(*spec, storage_url(spec[0], ""), create=create)
    assert (tmp_path / "theirs.db").read_bytes() == before


def test_a_storage_that_is_given_may_be_a_link(spec: Any, tmp_path: Path):
    (tmp_path / "given.db").symlink_to(tmp_path / "kept.db")
    open_study(*spec, f"sqlite:///{tmp_path / 'given.db'}", create=True)
    assert (tmp_path / "kept.db").stat().st_size


@pytest.mark.parametrize("odd", ["link", "pipe", "folder"])
def test_a_log_is_added_to_no_file_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str):
    (tmp_path / "theirs").write_bytes(b"theirs")
    monkeypatch.setattr(local_workers, "worker_command", lambda *_: [sys.executable, "-c", "print('said')"])
    put(tmp_path / "worker_0.log", odd, tmp_path / "theirs")
    put(tmp_path / "log.txt", odd, tmp_path / "theirs")
    team = local_workers.LocalWorkers("sweep", tmp_path / "x.yaml", "sqlite://", tmp_path, 1, None)
    with pytest.raises(InputError, match=r"worker_0.log' cannot be written"):
        team.start(0)
    team.stop()
    with pytest.raises(InputError, match=r"log.txt' cannot be written"):
        TrainingProcess([sys.executable, "-c", "print('said')"], tmp_path, "r", "0")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"


def test_an_opened_log_has_its_path_as_its_name(tmp_path: Path):
    with open_log(tmp_path / "log.txt", "SPEC") as log:
        assert Path(log.name) == tmp_path / "log.txt"


def test_logs_have_the_permissions_of_new_files_and_are_added_to(tmp_path: Path):
    (tmp_path / "new").write_text("")
    for _ in range(2):
        process = TrainingProcess([sys.executable, "-c", "print('said')"], tmp_path, "r", "0")
        process._process.wait()
    assert (tmp_path / "log.txt").read_text(encoding="utf-8").split() == ["said", "said"]
    assert (tmp_path / "log.txt").stat().st_mode == (tmp_path / "new").stat().st_mode


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"{", bytes(2 << 20)], ids=["no text", "empty", "half", "large"])
def test_a_damaged_note_of_a_training_moves_it_aside_and_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
):
    folder = own_folder(tmp_path / "seed_0", {"study": "s"})
    (folder / "facts.json").write_text("{}", encoding="utf-8")
    (folder / "settings.json").write_bytes(content)
    say_damaged(tmp_path)
    assert ("settings.json' is damaged (" in caplog.text) == (
        content not in (b"", b"{")
    )  # those are texts, of another training
    own_folder(folder, {"study": "s"})
    assert is_of(folder, {"study": "s"})
    assert not (folder / "facts.json").exists()
    assert (tmp_path / "seed_0.before1" / "facts.json").exists()


def test_damaged_facts_of_a_training_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fashion_ml.sweep.trial.finish_rest", lambda target: None)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"finished": true}', encoding="utf-8")
    (tmp_path / "run" / "facts.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"storage: '.*/run/facts.json' is damaged \("):
        run_training("lora", tmp_path / "base.yaml", {}, tmp_path, "r", "0", lambda process: 1)
    assert not (tmp_path / "facts.json").exists()


def test_a_damaged_note_of_a_confirmations_run_is_made_anew_from_the_study(tmp_path: Path):
    (tmp_path / "run_id.txt").write_bytes(b"\xff\xfe\x00")
    notes: list[str] = []
    fresh = SimpleNamespace(noted=lambda study: {"run": "b" * 32}, note=lambda study, run_id: notes.append(run_id))
    begun = SimpleNamespace(begun=lambda run_id: True, close_child=lambda *_: notes.append("closed"))
    found = _run_of(None, None, fresh, tmp_path, begun)  # type: ignore[arg-type]
    assert (found, notes, noted_text(tmp_path / "run_id.txt")) == ("b" * 32, ["b" * 32], "b" * 32)
