"""JSON that others may have written: read with limits, and asked for its shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.redact import first_line

MOST_BYTES = 512 << 20
"""Of one file: a report of many thousand pictures has some hundred million."""


def parsed(text: str | bytes) -> Any:
    """What a JSON text holds. ValueError for what is none, also where it is nested too deep or bytes are no text."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def parsed_mapping(text: str | bytes) -> dict[str, Any]:
    """As `parsed`, of a text that has to hold a mapping."""
    tree = parsed(text)
    if not isinstance(tree, dict):
        raise ValueError(f"it holds a {type(tree).__name__}, not a mapping")  # noqa: TRY004 - callers know one kind of error
    return tree


def read_mapping(path: Path, field: str, fix: str) -> dict[str, Any]:
    """The mapping in a JSON file. InputError, naming the setting `field` and the `fix`, for one that cannot be read or holds none."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than the {MOST_BYTES:,} bytes that are read")
        return parsed_mapping(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{field}: {str(path)!r} is damaged ({first_line(error)[:200]}); {fix}") from None
