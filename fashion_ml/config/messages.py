"""What is wrong with settings, as one line each: path, value, fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from fashion_ml.config.base import Section
from fashion_ml.config.settings import setting_at


def problem(item: Any, root: type[Section]) -> str:
    """One of pydantic's errors about a `root` as `path: value; fix`; a value that is not accepted with the range that the docs give."""
    location = ".".join(str(part) for part in item["loc"]) or "config"
    if item["type"] == "extra_forbidden":
        known = _known_keys(item["loc"][:-1], root)
        near = did_you_mean(str(item["loc"][-1]), known)
        return f"{location}: unknown key; {near or 'known here: ' + ', '.join(known)}"
    if item["type"] == "missing":
        return f"{location}: is not given; add it to the YAML file or pass --set {location}=VALUE"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{location}: {message}"
    setting = setting_at(root, item["loc"])
    told = setting and item["type"] != "literal_error" and setting.accepts != "text"  # else the message has the choices already
    accepts = f" ({setting.path.rpartition('.')[2]}: {setting.accepts})" if setting and told else ""
    return f"{location}: {_shown(item['input'])} is not accepted; {message[0].lower()}{message[1:]}{accepts}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean x?` where one of the known names is near; else nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _known_keys(location: tuple[Any, ...], root: type[Section]) -> list[str]:
    model: Any = root
    for part in location:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
