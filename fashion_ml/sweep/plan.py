"""What a study holds, of a sweep or of a suite: the slots that are wanted, and what all of them share."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from fashion_ml.config import SuiteSpec, SweepSpec
from fashion_ml.config.sweep import Pruner
from fashion_ml.runtime.own_file import check_own

Spec: TypeAlias = "SweepSpec | SuiteSpec"
STORAGE = "FASHION_ML_STORAGE"
"""Environment variable: the storage's URL, so that its password is on no command line."""

DATABASE = "study.db"
"""In the study's folder, where no other storage is given."""
LOG, TRAINING_LOCK = "log.txt", "training.lock"
"""In the folder of each training."""
_WORKER_LOGS = re.compile(r"worker_\d+\.log")
_BESIDE_DATABASE = ("", "-journal", "-wal", "-shm")
"""Ends the names of the files that SQLite opens."""


@dataclass(frozen=True)
class Slot:
    """One trial that is wanted."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """What is fixed of its settings before a sampler draws the others."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """User attributes that it begins with, and that its retries keep."""


@dataclass(frozen=True)
class Plan:
    """A study before it is opened."""

    spec: Spec
    directions: Sequence[str]
    """`minimize` or `maximize` of each value of a trial."""
    slots: Mapping[int, Slot]
    """By number; numbers stay when more are wanted."""
    parts: Mapping[str, Any]
    """What all trials of the study share of its file, by name."""
    experiments: Mapping[str, Any]
    """The experiments that trials change, by recipe; a sweep has one, without a name. All trials share them too."""
    shared: str
    """What parts and experiments are, in words."""
    pruner: Pruner = field(default_factory=Pruner)


def study_folder(spec: Spec) -> Path:
    """`outputs/sweeps/<name>`, or `outputs/suites/<name>`, on each machine."""
    return (Path("outputs") / f"{spec.kind}s" / spec.name).absolute()


def storage_url(spec: Spec, given: str) -> str:
    """The storage of a study: what is given, else FASHION_ML_STORAGE, else what the file says, else a file in the study's folder.

    A PostgreSQL URL that names no driver gets the one that comes with `fashion-ml[postgres]`.
    """
    url = given or os.environ.get(STORAGE) or spec.storage or f"sqlite:///{study_folder(spec) / DATABASE}"
    scheme, colon, rest = url.partition("://")
    return f"postgresql+psycopg{colon}{rest}" if scheme in ("postgresql", "postgres") else url


def check_database(spec: Spec) -> None:
    """InputError where a link, or what is no file, is in the place of a file of the database in a study's folder: SQLite opens what a link
    leads to."""
    for end in _BESIDE_DATABASE:
        check_own(study_folder(spec) / f"{DATABASE}{end}", "SPEC")


def check_opened(spec: Spec) -> None:
    """InputError as of `check_database`, for the logs and the locks in a study's folder too."""
    check_database(spec)
    for place, folders, files in os.walk(study_folder(spec)):
        for name in (*folders, *files):
            if name in (LOG, TRAINING_LOCK) or _WORKER_LOGS.fullmatch(name):
                check_own(Path(place, name), "SPEC")
