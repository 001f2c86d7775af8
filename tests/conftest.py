"""Tests run offline and without a GPU, each in a folder and a tracking store of its own."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.made_once import made_once
from tests.no_disk import wait_for_no_disk

if TYPE_CHECKING:
    from tests.runs.tracking_server import Server

settings.register_profile("here", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("here")
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")  # two test processes, each on a core of its own
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each process that a test starts would compile the package anew
os.environ["FASHION_ML_LANG"] = "en"  # whatever the developer's LANG
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and tables would be made to fit
for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_TRACKING_URI"):
    os.environ.pop(name, None)

PROJECT = Path(__file__).parents[1]
gc.set_threshold(10_000)  # models are made of thousands of objects, and few of them in circles
_MANY = 50
_frozen = 0
"""How many modules were there when what they hold was set apart."""


@pytest.fixture(autouse=True)
def heard(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is said reaches caplog, also after a test that drove the command line, which prints it instead.

    It is said in English: a test that spoke another language leaves none to the fixtures of the next, which are made before this one.
    """
    _set_modules_apart()
    made_once(request.path)
    wait_for_no_disk()
    logging.getLogger("fashion_ml").propagate = True
    os.environ["FASHION_ML_LANG"] = "en"
    yield
    os.environ["FASHION_ML_LANG"] = "en"


def _set_modules_apart() -> None:
    """`gc.collect`, which every phase of a run ends with, looks no more at the two million objects of what is imported: half a second each."""
    global _frozen
    if len(sys.modules) >= _frozen + _MANY:
        gc.collect()
        gc.freeze()
        _frozen = len(sys.modules)


def pytest_unconfigure() -> None:
    """At its end the process lets go of everything."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh MLflow database, made once: making one takes seconds."""
    from mlflow import MlflowClient

    importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
    made_once()
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded collection, drawn once, in a folder that is named as one below outputs/: drawing it takes seconds."""
    from fashion_ml.embedded.collection import collection_folder, write_collection

    made_once()
    return write_collection(tmp_path_factory.mktemp("drawn") / collection_folder().name)


@pytest.fixture(scope="session")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Stable Diffusion XL of random weights."""
    from tests.tiny_sdxl import write_tiny_sdxl

    return write_tiny_sdxl(tmp_path_factory.mktemp("sdxl") / "tiny")


@pytest.fixture(scope="module")
def blank_figures() -> Iterator[None]:
    """What runs of this process draw stays white. Tests of figures, and processes that are not forked from this one, draw them."""
    from tests.runs.blank_figures import draw_nothing

    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch.setattr)
        yield


@pytest.fixture
def workdir(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a tracking store in it."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return tmp_path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An MLflow server on PostgreSQL, both real."""
    from tests.runs.postgres import Postgres
    from tests.runs.tracking_server import PASSWORD, Server

    folder = tmp_path_factory.mktemp("server")
    postgres = Postgres(folder)
    postgres.start()
    one = Server(folder, postgres.url(driver="+psycopg", password=PASSWORD))
    one.start()
    yield one
    one.kill()
    postgres.stop()
