"""The folder of a training of a study: of which study and settings it is, and what the training has written down."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.console import warn
from fashion_ml.runtime.input_file import read_utf8
from fashion_ml.runtime.json_file import read_mapping
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.redact import first_line

_SETTINGS = "settings.json"
_MOST_BYTES = 1 << 20


def own_folder(folder: Path, identity: Mapping[str, str]) -> Path:
    """A folder for these settings of this study; what another study, or other settings, left in it is moved aside, and so is what cannot be
    told, which is said."""
    if folder.is_dir() and not is_of(folder, identity) and any(folder.iterdir()):
        number = next(n for n in itertools.count(1) if not folder.with_name(f"{folder.name}.before{n}").exists())
        folder.rename(folder.with_name(f"{folder.name}.before{number}"))
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / _SETTINGS, _text_of(identity))
    return folder


def is_of(folder: Path, identity: Mapping[str, str]) -> bool:
    """Whether a folder is of these settings of this study; a note of it that is damaged is said."""
    return noted_text(folder / _SETTINGS).strip() == _text_of(identity).strip()


def noted_text(path: Path) -> str:
    """What a short note holds; empty where there is none, and where it is damaged, which is said."""
    if not path.is_file():
        return ""
    try:
        return read_utf8(path, "utf-8", _MOST_BYTES)
    except (OSError, ValueError) as error:
        warn(tr("{path!r} is damaged ({first_line}), and made anew", path=str(path), first_line=first_line(error)[:200]))
        return ""


def say_damaged(folder: Path) -> None:
    """Say, below a study's folder, whose notes are damaged, so that what lies beside them is trained again."""
    for path in sorted(folder.rglob(_SETTINGS)):
        noted_text(path)


def noted(path: Path) -> dict[str, Any]:
    """What a training has written down. InputError where it is damaged."""
    return read_mapping(path, "storage", tr("remove that trial's folder, and it is trained again"))


def _text_of(identity: Mapping[str, str]) -> str:
    return json.dumps(dict(identity), sort_keys=True) + "\n"
