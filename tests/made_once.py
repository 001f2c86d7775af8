"""What takes long to make and is the same each time is made once in a process: the tables of a new store and what the newest is called, the
embedded collection's pictures, the embedded base's models."""

from __future__ import annotations

import copy
import sqlite3
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.nn import Module

    from fashion_ml.embedded.garments import Garment

REAL = {"test_store_file.py", "test_warm_start.py", "test_collection.py", "test_garments.py", "test_models.py"}
"""Files whose tests are about the making itself."""
_EMBEDDED = Path(__file__).parents[1] / "fashion_ml" / "embedded" / "models"
_active = True
_seen: set[str] = set()


def made_once(file: Path | None = None) -> None:
    """From now on, in tests of this file, all of them are copies of what this process has made before, as far as it has imported them."""
    global _active
    _active = file is None or file.name not in REAL
    for name, attribute, of in (
        ("mlflow.store.db.utils", "_initialize_tables", _tables),
        ("mlflow.store.db.utils", "_get_latest_schema_revision", _revision),
        ("fashion_ml.embedded.collection", "_write_part", _part),
        ("fashion_ml.models.base_folder", "read_model", _model),
    ):
        if name in sys.modules and f"{name}.{attribute}" not in _seen:
            _seen.add(f"{name}.{attribute}")
            real = getattr(sys.modules[name], attribute)
            copied = of(real)
            for one in list(sys.modules.values()):  # others have it under its name
                if getattr(one, "__dict__", {}).get(attribute) is real:
                    setattr(one, attribute, copied)


def _tables(make: Callable[[Any], None]) -> Callable[[Any], None]:
    """MLflow's seventy migrations, for an sqlite file that has no table yet."""
    made = sqlite3.connect(":memory:", check_same_thread=False)
    known: list[bool] = []

    def initialize(engine: Any) -> None:
        from sqlalchemy import inspect

        new = engine.dialect.name == "sqlite" and not inspect(engine).get_table_names()
        if not (_active and new and known):
            make(engine)
        if not (_active and new):
            return
        with engine.connect() as connection:
            store = connection.connection.dbapi_connection
            if known:
                made.backup(store)
            else:
                store.backup(made)
                known.append(True)

    return initialize


def _revision(newest: Callable[[], str]) -> Callable[[], str]:
    """What MLflow finds by reading its seventy migrations, each time a store is opened."""
    known = lru_cache(maxsize=1)(newest)
    return lambda: known() if _active else newest()


def _part(write: Callable[..., None]) -> Callable[..., None]:
    """A part of the collection: name and content of its files."""
    known: dict[tuple[tuple[Garment, ...], int], dict[str, bytes]] = {}

    def write_part(folder: Path, garments: Sequence[Garment], size: int) -> None:
        files = known.get((tuple(garments), size)) if _active else None
        if files is None:
            write(folder, garments, size)
            known[tuple(garments), size] = {path.name: path.read_bytes() for path in folder.iterdir()}
            return
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)

    return write_part


def _model(read: Callable[..., Any]) -> Callable[..., Any]:
    """A model of the embedded base, as it was before anything was added to it.

    Its files are in half precision, so that weights in use are copies either way: those of another base may lie elsewhere in memory when
    they are read than when they are copied, and then a sum's last bit is another.
    """
    known: dict[tuple[Path, str], Any] = {}

    def read_model(folder: Path, part: str, what: str) -> Any:
        if not (_active and folder.is_relative_to(_EMBEDDED)):
            return read(folder, part, what)
        if (folder, part) not in known:
            known[folder, part] = read(folder, part, what)
        model, files = known[folder, part]
        return copied(model, {}), files

    return read_model


def copied(model: Module, known: dict[int, Any]) -> Any:
    """`copy.deepcopy` of a model, in a third of its time: weights, modules and hooks are copied, and each other attribute as deeply as it goes.

    What is in several places stays one: `known` holds what was copied, by the id of what it is a copy of.
    """
    if id(model) in known:
        return known[id(model)]
    made = known[id(model)] = object.__new__(type(model))
    for name, value in vars(model).items():
        if name == "_modules":
            new: Any = type(value)((key, one if one is None else copied(one, known)) for key, one in value.items())
        elif name in ("_parameters", "_buffers"):
            new = type(value)((key, one if one is None else copy.deepcopy(one, known)) for key, one in value.items())
        elif value is None or isinstance(value, (bool, int, float, str)):
            new = value
        elif isinstance(value, (dict, set)) and not value:
            new = type(value)()
        else:
            new = copy.deepcopy(value, known)
        made.__dict__[name] = new
    return made
