"""What an operation of a spool must look like: its file is input as any other, and may be damaged, or someone else's.

What no store takes, or what MLflow tells as a fault of its own, is none: it would be tried again and again, and hold up what is behind it.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from fashion_ml.runtime.language import tr

_STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
_ODD = (TypeError, ValueError, LookupError, AttributeError, OverflowError)
"""What looking at something of another shape raises; text without an encoding is a ValueError."""
_KEY, _LONGEST_KEY = re.compile(r"[/\w.\- :]*\n?"), 250
"""What the name of a metric, a param or a tag may be made of for MLflow, and its most letters."""
_LAST_MS = 253_402_300_799_999
_LONGEST_NAME, _LONGEST_PLACE, _LONGEST_PATH = 255, 1000, 4095
"""Bytes of a file's name, of a place among artifacts (S3 takes 1024 with the run's) and of a path here."""
_DEEPEST, _SHOWN = 16, 80
"""Levels of what an operation may hold besides its own fields, and letters of a value that are shown."""
_DATASET = frozenset(("name", "digest", "source_type", "source"))


def is_operation(found: Any) -> bool:
    """Whether something read from a spool is an operation that can be performed."""
    try:
        if not isinstance(found, dict) or not _is_text(found.get("run")):
            return False
        fields, check = _CHECKS[found["do"]]
        return bool(check(found)) and all(key in fields or is_shallow(value) for key, value in found.items())
    except _ODD:
        return False


def parted(found: Any) -> tuple[dict[str, Any] | None, Any]:
    """What of something read from a spool can be performed, and what cannot: of a batch, its points, params and tags one by one.

    None for nothing of it.
    """
    if is_operation(found):
        return found, None
    if not isinstance(found, dict) or found.get("do") != "batch":
        return None, found
    good, bad = dict(found), {"do": "batch", "run": found.get("run")}
    for field, check in _PARTS.items():
        values = found.get(field, [])
        if not isinstance(values, list):
            return None, found
        if unfit := [value for value in values if not _fits(check, value)]:
            good[field], bad[field] = [value for value in values if _fits(check, value)], unfit
    return (good, bad) if any(good.get(field) for field in _PARTS) and is_operation(good) else (None, found)


def what_is_wrong(found: Any) -> str:
    """Why something read from a spool is no operation."""
    do = found.get("do") if isinstance(found, dict) else None
    if do == "batch":
        for field, check in _PARTS.items():
            values = found.get(field)
            for value in values if isinstance(values, list) else ():
                if not _fits(check, value):
                    shown = json.dumps(value)[:_SHOWN] if is_shallow(value) else "…"
                    return tr("no store takes {value} among {field}", value=shown, field=field)
    place = {"file": "folder", "folder": "folder", "text": "artifact"}.get(do) if isinstance(do, str) else None
    if place and isinstance(found.get(place), str) and not _fits(_is_place, found[place]):
        return tr("{place} is no place below a run's artifacts", place=ascii(found[place])[:_SHOWN])
    return tr("it is no operation")


def is_shallow(value: Any, levels: int = _DEEPEST) -> bool:
    """Whether something read from JSON is nested so little that it can be written as JSON again."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(is_shallow(one, levels - 1) for one in inside)


def _fits(check: Callable[[Any], bool], value: Any) -> bool:
    try:
        return check(value)
    except _ODD:
        return False


def _is_text(*values: Any) -> bool:
    """Whether all are text that can be written; a ValueError for half a surrogate pair, which JSON may hold."""
    return all(isinstance(value, str) and (value.isascii() or bool(value.encode())) for value in values)


def _is_whole(value: Any) -> bool:
    """Whether it is a whole number that a database holds."""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


@lru_cache(maxsize=4096)
def _is_key(value: Any) -> bool:
    return _is_text(value) and len(value) <= _LONGEST_KEY and bool(_KEY.fullmatch(value)) and _is_plain(value)


def _is_plain(path: str) -> bool:
    """Whether it is a relative path in its shortest form that does not lead up, as MLflow checks names and places."""
    return posixpath.normpath(path) == path and path != "." and not path.startswith(("..", "/"))


def _is_time(value: Any) -> bool:
    """Whether it is a time in ms, up to the year 9999."""
    return _is_whole(value) and 0 <= value <= _LAST_MS


def _is_metric(point: Any) -> bool:
    key, value, time, step = point
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    float(value)  # an OverflowError for a whole number that is none
    return _is_key(key) and _is_time(time) and _is_whole(step)


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and _is_key(pair[0]) and _is_text(pair[1])


_PARTS: dict[str, Callable[[Any], bool]] = {"metrics": _is_metric, "params": _is_pair, "tags": _is_pair}


def _is_batch(found: dict[str, Any]) -> bool:
    lists = [(found.get(field, []), check) for field, check in _PARTS.items()]
    return all(isinstance(values, list) and all(map(check, values)) for values, check in lists)


def _is_place(name: str) -> bool:
    """Whether it is a place below the artifacts of a run, as MLflow checks it, which tells others as a fault of its own."""
    return _is_plain(name) and "\\" not in name and _is_name(name, _LONGEST_PLACE)


def _is_name(name: Any, most: int) -> bool:
    """Whether a file system can take it as a path of so many bytes; a ValueError for half a surrogate pair that is no byte of a name."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    whole = os.fsencode(name)
    return len(whole) <= most and all(len(part) <= _LONGEST_NAME for part in whole.split(b"/"))


def _is_file(found: dict[str, Any]) -> bool:
    return _is_name(found["path"], _LONGEST_PATH) and (found["folder"] in (None, "") or _is_place(found["folder"]))


def _is_creation(found: dict[str, Any]) -> bool:
    tags, experiment = found["tags"], found["experiment"]
    named = _is_text(experiment, found["name"], *tags, *tags.values())
    return named and _is_time(found["start"]) and (not experiment.isdecimal() or _is_whole(int(experiment)))


def _are_inputs(found: dict[str, Any]) -> bool:
    datasets = found["datasets"]
    return isinstance(datasets, list) and all(_is_dataset(**one) for one in datasets)


def _is_dataset(dataset: dict[str, Any], tags: list[Any]) -> bool:
    fields = dataset.keys() - {key for key, value in dataset.items() if value is None}
    known = fields >= _DATASET and dataset.keys() <= _DATASET | {"schema", "profile"}
    return known and _is_text(*(dataset[key] for key in fields)) and isinstance(tags, list) and all(map(_is_pair, tags))


_Check = Callable[[dict[str, Any]], bool]
_CHECKS: dict[Any, tuple[frozenset[str], _Check]] = {
    "batch": (frozenset(_PARTS), _is_batch),
    "file": (frozenset(), _is_file),
    "folder": (frozenset(), _is_file),
    "text": (frozenset(), lambda found: _is_text(found["text"]) and _is_place(found["artifact"])),
    "inputs": (frozenset(("datasets",)), _are_inputs),
    "create": (frozenset(("tags",)), _is_creation),
    "begin": (frozenset(), lambda found: True),
    "end": (frozenset(), lambda found: found["status"] in _STATUSES and _is_time(found["end"])),
    "untag": (frozenset(), lambda found: _is_text(found["key"])),
    "delete": (frozenset(), lambda found: True),
}
"""By `do`: the fields that are lists or mappings and are looked through, and whether all fields are as they have to be."""
