"""What an operation of a spool must look like: its file is input as any other, and may be damaged, or someone else's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")


def is_operation(found: Any) -> bool:
    """Whether something read from a spool is an operation that can be performed."""
    if not isinstance(found, dict) or not isinstance(found.get("run"), str):
        return False
    try:
        check = _CHECKS.get(found.get("do"))
        return check is not None and bool(check(found))
    except (TypeError, ValueError, KeyError, AttributeError):
        return False


def _is_text(*values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_metric(point: Any) -> bool:
    key, value, time, step = point
    return _is_text(key) and isinstance(value, int | float) and _is_whole(time) and _is_whole(step)


def _are_pairs(pairs: Any) -> bool:
    return isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 and _is_text(*pair) for pair in pairs)


def _is_batch(found: dict[str, Any]) -> bool:
    metrics = found.get("metrics", [])
    return (
        isinstance(metrics, list)
        and all(_is_metric(point) for point in metrics)
        and _are_pairs(found.get("params", []))
        and _are_pairs(found.get("tags", []))
    )


def _is_file(found: dict[str, Any]) -> bool:
    return _is_text(found["path"]) and (found["folder"] is None or _is_text(found["folder"]))


def _is_creation(found: dict[str, Any]) -> bool:
    tags = found["tags"]
    return _is_text(found["experiment"], found["name"], *tags, *tags.values()) and _is_whole(found["start"])


def _are_inputs(found: dict[str, Any]) -> bool:
    return all(isinstance(one["dataset"], dict) and _are_pairs(one["tags"]) for one in found["datasets"])


_CHECKS: dict[Any, Callable[[dict[str, Any]], bool]] = {
    "batch": _is_batch,
    "file": _is_file,
    "folder": _is_file,
    "text": lambda found: _is_text(found["text"], found["artifact"]),
    "inputs": _are_inputs,
    "create": _is_creation,
    "begin": lambda found: True,
    "end": lambda found: found["status"] in _STATUSES and _is_whole(found["end"]),
    "untag": lambda found: _is_text(found["key"]),
    "delete": lambda found: True,
}
