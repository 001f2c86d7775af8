"""JSON that others may have written: read with limits, and asked for its shape."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.redact import first_line

MOST_BYTES = 512 << 20
"""Of one file: a report of many thousand pictures has some hundred million."""


class DoubledKeyError(ValueError):
    """A key that stands twice in one mapping, of which Python's reader takes the last; the text names it."""


def parsed(text: str | bytes, *, once: bool = False) -> Any:
    """What a JSON text holds. ValueError for what is none, also where it is nested too deep or bytes are no text; with `once`,
    DoubledKeyError for a key that stands twice."""
    try:
        return json.loads(text, object_pairs_hook=_each_once if once else None)
    except RecursionError:
        raise ValueError(tr("it is nested too deep")) from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise DoubledKeyError(tr("{value!r} stands twice", value=next(key for key in counts if counts[key] > 1)[:80]))
    return tree


def parsed_mapping(text: str | bytes, *, once: bool = False) -> dict[str, Any]:
    """As `parsed`, of a text that has to hold a mapping."""
    tree = parsed(text, once=once)
    if not isinstance(tree, dict):
        raise ValueError(tr("it holds a {name}, not a mapping", name=type(tree).__name__))  # noqa: TRY004 - callers know one kind of error
    return tree


@contextmanager
def of_its_shape(field: str, path: Path, fix: str) -> Iterator[None]:
    """Around reading what a file that we write holds: InputError, naming the setting `field` and the `fix`, where it is not as we write it.

    Files are input: somebody may have edited, cut or swapped them.
    """
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        raise InputError(
            tr(
                "{field}: {path!r} is damaged ({kind}{first_line}); {fix}",
                field=field,
                path=str(path),
                kind=kind,
                first_line=first_line(error)[:200],
                fix=fix,
            )
        ) from None


def below(folder: Path, name: object) -> Path:
    """The path of a file that a note inside a folder names. ValueError where that is not below the folder."""
    path = PurePosixPath(str(name))
    if not isinstance(name, str) or not name or "\0" in name or path.is_absolute() or ".." in path.parts:
        raise ValueError(tr("{name!r} is not below the folder", name=str(name)[:80]))
    return folder / path


def read_mapping(path: Path, field: str, fix: str) -> dict[str, Any]:
    """The mapping in a JSON file. InputError, naming the setting `field` and the `fix`, for one that cannot be read or holds none."""
    try:
        return parsed_mapping(read_whole(path, MOST_BYTES))
    except (OSError, ValueError) as error:
        raise InputError(
            tr(
                "{field}: {path!r} is damaged ({first_line}); {fix}",
                field=field,
                path=str(path),
                first_line=first_line(error)[:200],
                fix=fix,
            )
        ) from None
