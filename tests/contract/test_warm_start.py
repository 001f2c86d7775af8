from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow import MlflowClient

from fashion_ml.embedded.collection import collection_folder
from fashion_ml.runs.warm_start import make_ahead


def test_the_process_makes_the_collection_and_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///new.db")
    assert make_ahead(collection=True)
    deadline = time.monotonic() + 120
    while not Path("new.db").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert Path("new.db").exists()  # made by the process that was started
    with FileLock("new.db.lock", timeout=120):  # until it is done
        pass
    assert (collection_folder() / "collection.json").is_file()
    assert [found.name for found in MlflowClient("sqlite:///new.db").search_experiments()] == ["Default"]


@pytest.mark.parametrize("uri", ["sqlite:///there.db", "http://127.0.0.1:9", "file:./there"])
def test_nothing_is_started_where_a_store_is_or_where_a_server_keeps_it(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("there.db").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    assert not make_ahead(collection=False)


def test_only_the_main_process_of_several_starts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///new.db")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    assert not make_ahead(collection=True)
