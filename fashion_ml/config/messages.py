"""What is wrong with settings, as one line each: path, value, fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from fashion_ml.config.base import Section
from fashion_ml.config.settings import Setting, setting_at, settings_of
from fashion_ml.config.value_words import reason
from fashion_ml.runtime.language import tr

_SIDE, _LARGEST = 400, 10**100
_MOST = 20
"""Lines that are said of one file: finding what was meant by each of 20,000 unknown keys takes long, and nobody reads them."""


def problems(items: Sequence[Any], root: type[Section], before: str = "") -> list[str]:
    """A line for each of pydantic's errors about a `root`, with `before` in front: of the first 20, and how many more there are."""
    return shortened([f"{before}{problem(item, root)}" for item in items[:_MOST]], len(items))


def shortened(lines: Sequence[str], count: int) -> list[str]:
    """The first 20 of the lines on `count` settings that are wrong, and one that says how many more there are."""
    more = count - _MOST
    return [
        *lines[:_MOST],
        *([tr("config: {count} more settings are wrong; mend these first", count=more)] if more > 0 else []),
    ]


def problem(item: Any, root: type[Section]) -> str:
    """One of pydantic's errors about a `root` as `path: value; fix`; a value that is not accepted with the range that the docs give."""
    location = ".".join(str(part) for part in item["loc"]) or "config"
    if item["type"] == "extra_forbidden":
        known, settings = _known_keys(item["loc"][:-1], root), settings_of(root)
        short = () if len(item["loc"]) > 1 else (name for one in settings for name in one.names)
        near = did_you_mean(str(item["loc"][-1]), [*known, *short], settings)
        return tr(
            "{location}: unknown key; {value}",
            location=location,
            value=near or tr("known here: {names}", names=", ".join(known)),
        )
    if item["type"] == "invalid_key":
        above = ".".join(str(part) for part in item["loc"][:-1]) or "config"
        return tr("{location}: the key {key} is no text; give the name of a setting", location=above, key=_shown(item["input"]))
    if item["type"] == "missing":
        return tr("{location}: is not given; add it to the YAML file or pass --set {location}=VALUE", location=location)
    if item["type"] == "value_error":
        return f"{location}: {_middle_out(item['msg'].removeprefix('Value error, '))}"
    message = reason(item)
    setting = setting_at(root, item["loc"])
    told = setting and item["type"] != "literal_error" and setting.accepts != "text"  # else the message has the choices already
    accepts = f" ({setting.path.rpartition('.')[2]}: {setting.accepts})" if setting and told else ""
    return tr(
        "{location}: {shown} is not accepted; {lower}{message}{accepts}",
        location=location,
        shown=_shown(item["input"]),
        lower=message[0].lower(),
        message=message[1:],
        accepts=accepts,
    )


def did_you_mean(name: str, known: Iterable[str], settings: Sequence[Setting], dashes: str = "") -> str:
    """`did you mean x?`: the settings of just that name, by their paths, else the nearest of the known names; nothing where none is near."""
    meant = [one.path for one in settings if name in (*one.names, one.path.rpartition(".")[2])]
    meant = meant or difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return tr("did you mean {names}?", names=tr(" or ").join(f"{dashes}{one}" for one in meant)) if meant else ""


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of 5,000 digits, say
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _middle_out(message: str) -> str:
    """A message that repeats a long value, without the middle: how it begins, and the fix at its end."""
    return message if len(message) <= 2 * _SIDE else f"{message[:_SIDE]}…{message[-_SIDE:]}"


def too_large(tree: Any, path: str = "") -> list[str]:
    """A line for each number of a tree that no setting has, and that checking it could not even convert."""
    if isinstance(tree, int) and abs(tree) > _LARGEST:
        return [
            tr(
                "{value}: a number of more than {count} digits is not accepted; give less",
                value=path or "config",
                count=len(str(_LARGEST)) - 1,
            )
        ]
    inside = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    return [line for key, value in inside for line in too_large(value, f"{path}.{key}" if path else str(key)[:200])]


def _known_keys(location: tuple[Any, ...], root: type[Section]) -> list[str]:
    below: Any = root
    for part in location:
        section = _section_in(below)
        if section and part in section.model_fields:  # else it is a place in a list or mapping of sections
            below = section.model_fields[str(part)].annotation
    section = _section_in(below)
    return list(section.model_fields) if section else []


def _section_in(annotation: Any) -> type[Section] | None:
    """The section that an annotation is, or is a list or mapping of."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for found in map(_section_in, get_args(annotation)) if found), None)
