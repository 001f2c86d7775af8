"""What pydantic found wrong with an experiment, as one line each: path, value, fix."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel


def problem(item: Any, root: type[BaseModel]) -> str:
    """One of pydantic's errors about a `root` as `path: value; fix`."""
    location = ".".join(str(part) for part in item["loc"]) or "config"
    if item["type"] == "extra_forbidden":
        known = _known_keys(item["loc"][:-1], root)
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
        fix = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"{location}: unknown key; {fix}"
    if item["type"] == "missing":
        return f"{location}: is not given; add it to the YAML file or pass --set {location}=VALUE"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{location}: {message}"
    return f"{location}: {_shown(item['input'])} is not accepted; {message[0].lower()}{message[1:]}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _known_keys(location: tuple[Any, ...], root: type[BaseModel]) -> list[str]:
    model: Any = root
    for part in location:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
