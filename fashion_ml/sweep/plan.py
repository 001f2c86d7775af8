"""What a study holds, of a sweep or of a suite: the slots that are wanted, and what all of them share."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from fashion_ml.config import SuiteSpec, SweepSpec, flat
from fashion_ml.config.sweep import Pruner

Spec: TypeAlias = "SweepSpec | SuiteSpec"
STORAGE = "FASHION_ML_STORAGE"
"""Environment variable: the storage's URL, so that its password is on no command line."""


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
    digest: str
    """Of what all trials of the study share."""
    shared: str
    """What the digest is of, in words."""
    pruner: Pruner = field(default_factory=Pruner)


def digest_of(parts: Any, *experiments: Any) -> str:
    """SHA-256 of what trials of one study must share: parts of its file, and the experiments that they change."""
    trees = [{key: str(value) for key, value in flat(one).items()} for one in experiments]
    return hashlib.sha256(json.dumps([parts, *trees], sort_keys=True).encode()).hexdigest()


def study_folder(spec: Spec) -> Path:
    """`outputs/sweeps/<name>`, or `outputs/suites/<name>`, on each machine."""
    return (Path("outputs") / f"{spec.kind}s" / spec.name).absolute()


def storage_url(spec: Spec, given: str) -> str:
    """The storage of a study: what is given, else FASHION_ML_STORAGE, else what the file says, else a file in the study's folder.

    A PostgreSQL URL that names no driver gets the one that comes with `fashion-ml[postgres]`.
    """
    url = given or os.environ.get(STORAGE) or spec.storage or f"sqlite:///{study_folder(spec) / 'study.db'}"
    scheme, colon, rest = url.partition("://")
    return f"postgresql+psycopg{colon}{rest}" if scheme in ("postgresql", "postgres") else url
