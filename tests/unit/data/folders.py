"""Folders of images as people have them, for the tests of what is read and what is left out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from fashion_ml.data.images import Reading, scan_training_folder
from fashion_ml.data.notices import Kind

CP950 = "洋裝".encode("cp950")
"""What unzip leaves on Linux of a name in a zip made under Windows in Taiwan."""


def picture(path: Path, size: tuple[int, int] = (40, 40), seed: int | None = None) -> Path:
    """A picture of coarse random squares, another for each name, or of a seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed if seed is not None else sum(os.fsencode(path.name)))
    squares = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    squares.resize(size, Image.Resampling.NEAREST).convert("RGB").save(path, Image.registered_extensions()[path.suffix.lower()])
    return path


def noticed(reading: Reading, kind: Kind) -> list[tuple[str, str]]:
    """Names and details of the notices of one kind."""
    return [(notice.name, notice.detail) for notice in reading.notices if notice.kind is kind]


def kinds(reading: Reading) -> set[Kind]:
    """The kinds of what was noticed."""
    return {notice.kind for notice in reading.notices}


def scanned(folder: Path, files: Iterable[str] = (), *, skip: bool = False) -> Reading:
    """A training folder, with pictures of these names in it first."""
    for name in files:
        picture(folder / name)
    return scan_training_folder(folder, skip=skip)
