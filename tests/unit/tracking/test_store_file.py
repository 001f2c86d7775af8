"""An sqlite store that is killed while its tables are made: the same command works afterwards, and nothing that was kept is lost."""

from __future__ import annotations

import os
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

KILLS = 5
OLD = "867495a8f9d4"
"""A revision of MLflow 2: registered models are known, logged models are not."""
KILLED = """
import os, signal, sys, time
from mlflow import MlflowClient
from mlflow.store.db.utils import _initialize_tables
from fashion_ml.tracking.store import open_tracking
{prepare}

def opened(number, work):
    place = os.path.join(sys.argv[1], str(number))
    os.makedirs(place)
    os.chdir(place)
    os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///" + os.path.join(place, "mlflow.db")
    before(place)
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return child

began = time.monotonic()
os.waitpid(opened("whole", open_tracking), 0)
whole = time.monotonic() - began
for number in range({kills}):
    child = opened(number, open_tracking)
    time.sleep(whole * (number + 0.5) / {kills})
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def killed(folder: Path, prepare: str) -> None:
    """The first use of a store, killed at several points of it, each in a folder of its own that `before` has prepared."""
    script = KILLED.format(prepare=prepare, kills=KILLS)
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def old_store(file: Path) -> None:
    """A store of an older MLflow, with an experiment and a run."""
    from alembic import command
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

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


def test_a_new_store_that_is_killed_while_it_is_made_is_made_by_the_next_command(tmp_path: Path):
    killed(tmp_path, "before = lambda place: None")
    for number in range(KILLS):
        file = tmp_path / str(number) / "mlflow.db"
        make_whole(file)
        client = MlflowClient(f"sqlite:///{file}")
        assert client.get_run(client.create_run("0").info.run_id).info.status == "RUNNING"
        assert [path.name for path in file.parent.iterdir() if path.name.startswith("mlflow.db.new")] == []


def test_a_store_of_an_older_mlflow_that_is_killed_while_it_is_brought_up_to_date_keeps_its_runs(tmp_path: Path):
    old_store(tmp_path / "old.db")
    killed(tmp_path, f"import shutil\nbefore = lambda place: shutil.copy({str(tmp_path / 'old.db')!r}, place + '/mlflow.db')")
    for number in range(KILLS):
        file = tmp_path / str(number) / "mlflow.db"
        make_whole(file)
        assert MlflowClient(f"sqlite:///{file}").get_run("a1").info.run_name == "first"


def test_a_store_that_mlflow_itself_left_half_made_is_made_anew(tmp_path: Path):
    file = tmp_path / "mlflow.db"
    old_store(file)
    with closing(sqlite3.connect(file)) as store:
        store.executescript(
            "DELETE FROM runs; DELETE FROM experiments; ALTER TABLE trace_info ADD COLUMN experiment_id_2 INTEGER;"
        )
        store.execute("CREATE TABLE logged_models (model_id VARCHAR(36))")  # the next migration ends at it
        store.commit()
    make_whole(file)
    assert MlflowClient(f"sqlite:///{file}").create_run("0").info.status == "RUNNING"


def test_a_half_made_store_that_holds_runs_is_left_as_it_is(tmp_path: Path):
    file = tmp_path / "mlflow.db"
    old_store(file)
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


def test_what_others_write_while_the_tables_are_made_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "mlflow.db"
    old_store(file)
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
