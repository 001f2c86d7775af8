"""An sqlite store that is killed while its tables are made: the same command works afterwards, and nothing that was kept is lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.store.db.utils import _get_alembic_config

from fashion_ml.tracking import store_file
from fashion_ml.tracking.store_file import make_whole

pytestmark = pytest.mark.slow

KILLS = 3
OLD = "867495a8f9d4"
"""A revision of MLflow 2: registered models are known, logged models are not."""
KILLED = """
import os, shutil, signal, sys, time
from mlflow import MlflowClient
from mlflow.store.db.utils import _initialize_tables
from fashion_ml.tracking.store import open_tracking

def opened(kind, number):
    place = os.path.join(sys.argv[1], kind, str(number))
    os.makedirs(place)
    os.chdir(place)
    os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///" + os.path.join(place, "mlflow.db")
    if kind == "old":
        shutil.copy(os.path.join(sys.argv[1], "old.db"), "mlflow.db")
    child = os.fork()
    if child == 0:
        open_tracking()
        os._exit(0)
    return child

for kind in ("new", "old"):
    began = time.monotonic()
    os.waitpid(opened(kind, "whole"), 0)
    whole = time.monotonic() - began
    for number in range({kills}):
        child = opened(kind, number)
        time.sleep(whole * (number + 0.5) / {kills})
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def killed(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first use of a store, a new one and one of an older MLflow, killed at several points of it, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("killed")
    shutil.copy(old, folder / "old.db")
    done = subprocess.run(
        [sys.executable, "-c", KILLED.replace("{kills}", str(KILLS)), str(folder)],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of an older MLflow, with an experiment and a run: to be copied."""
    from alembic import command
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    file = tmp_path_factory.mktemp("old") / "mlflow.db"
    engine = create_engine(f"sqlite:///{file}")
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config = _get_alembic_config(str(engine.url))
        config.attributes["connection"] = connection
        command.upgrade(config, OLD)
    engine.dispose()
    with closing(sqlite3.connect(file)) as store:
        store.execute("INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (1, 'mine', 'active')")
        store.execute(
            "INSERT INTO runs (run_uuid, name, user_id, status, start_time, experiment_id, lifecycle_stage, artifact_uri) "
            "VALUES ('a1', 'first', 'me', 'FINISHED', 5, 1, 'active', '/a')"
        )
        store.commit()
    return file


def test_a_new_store_that_is_killed_while_it_is_made_is_made_by_the_next_command(killed: Path):
    for number in range(KILLS):
        file = killed / "new" / str(number) / "mlflow.db"
        make_whole(file)
        client = MlflowClient(f"sqlite:///{file}")
        assert client.get_run(client.create_run("0").info.run_id).info.status == "RUNNING"
        assert [path.name for path in file.parent.iterdir() if path.name.startswith("mlflow.db.new")] == []


def test_a_store_of_an_older_mlflow_that_is_killed_while_it_is_brought_up_to_date_keeps_its_runs(killed: Path):
    for number in range(KILLS):
        file = killed / "old" / str(number) / "mlflow.db"
        make_whole(file)
        assert MlflowClient(f"sqlite:///{file}").get_run("a1").info.run_name == "first"


def test_a_store_that_mlflow_itself_left_half_made_is_made_anew(old: Path, tmp_path: Path):
    file = tmp_path / "mlflow.db"
    shutil.copy(old, file)
    with closing(sqlite3.connect(file)) as store:
        store.executescript(
            "DELETE FROM runs; DELETE FROM experiments; ALTER TABLE trace_info ADD COLUMN experiment_id_2 INTEGER;"
        )
        store.execute("CREATE TABLE logged_models (model_id VARCHAR(36))")  # the next migration ends at it
        store.commit()
    make_whole(file)
    assert MlflowClient(f"sqlite:///{file}").create_run("0").info.status == "RUNNING"


def test_a_half_made_store_that_holds_runs_is_left_as_it_is(old: Path, tmp_path: Path):
    file = tmp_path / "mlflow.db"
    shutil.copy(old, file)
    with closing(sqlite3.connect(file)) as store:
        store.execute("CREATE TABLE logged_models (model_id VARCHAR(36))")
        store.commit()
    before = file.read_bytes()
    with pytest.raises(Exception, match="already exists"):
        make_whole(file)
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db"]


@pytest.mark.parametrize("content", [b"no database at all, but longer than its header would be" * 20, None])
def test_what_is_no_store_is_left_as_it_is(content: bytes | None, tmp_path: Path):
    file = tmp_path / "other.db"
    if content is None:
        with closing(sqlite3.connect(file)) as other:
            other.execute("CREATE TABLE letters (text)")
            other.commit()
    else:
        file.write_bytes(content)
    before = file.read_bytes()
    if content is None:  # MLflow adds its tables to it, as ever
        assert not store_file._holds_nothing(file)
    else:
        make_whole(file)
        assert file.read_bytes() == before


def test_what_others_write_while_the_tables_are_made_is_not_lost(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "mlflow.db"
    shutil.copy(old, file)
    writes, make = ["UPDATE runs SET name = 'second'"], store_file.make_tables

    def made(copy: Path) -> None:
        make(copy)
        if writes:
            with closing(sqlite3.connect(file)) as other:
                other.execute(writes.pop())
                other.commit()

    monkeypatch.setattr(store_file, "make_tables", made)
    make_whole(file)
    assert MlflowClient(f"sqlite:///{file}").get_run("a1").info.run_name == "second"
