"""What a body asks, in whichever of MLflow's forms, and what is refused of it before MLflow makes a frame of it: more rows than are answered,
cells and parameters that are no single value, and long texts.

MLflow makes arrays as wide as the longest text and as long as an index says, so that a body within its bounds could take many times its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fashion_ml.deploy.asked import MOST_LETTERS, MOST_ROWS, check_rows, refuse, text_of

RECORDS, _SPLIT, _INSTANCES, _INPUTS = FORMS = ("dataframe_records", "dataframe_split", "instances", "inputs")
_MOST_SIGNS = 40_000
"""Commas, colons and opening brackets of a body: as many characters as its texts may have, and some. A picture in base64 has none of them."""
_SIGNS = (b",", b":", b"[", b"{")
_PART = 1 << 20
"""Bytes that are looked through at once, so that others have their turn between."""


def has_many_values(body: bytes) -> bool:
    """Whether a JSON text has more values than any request has, without reading them: each stands behind one of a few signs."""
    found = 0
    for start in range(0, len(body), _PART):
        found += sum(body.count(sign, start, start + _PART) for sign in _SIGNS)
        if found > _MOST_SIGNS:
            return True
    return False


def too_many_values() -> str:
    """What is said of such a text."""
    return f"body: it has more than {_MOST_SIGNS:,} commas, colons and opening brackets; send fewer values"


def named_columns(tree: Mapping[str, Any]) -> Iterable[Any]:
    """The columns that a body names, in whichever form."""
    split = tree.get(_SPLIT)
    if isinstance(split, dict) and isinstance(split.get("columns"), list):
        yield from split["columns"]
    for form in (RECORDS, _INSTANCES, _INPUTS):
        rows = tree.get(form)
        for row in rows if isinstance(rows, list) else [rows]:
            if isinstance(row, dict):
                yield from row


def check_body(tree: Mapping[str, Any], columns: Sequence[str], pictures: Sequence[str]) -> None:
    """InputError for rows and parameters that no model of these columns takes, of which `pictures` hold files in base64."""
    for form in FORMS:
        if form in tree:
            for column, cell in _cells(form, tree[form], columns, pictures):
                _check_value(str(column)[:80], cell, any_length=column in pictures)
    params = tree.get("params")
    if params is not None and not isinstance(params, dict):
        refuse("params", type(params).__name__, "give a mapping of names to values")
    for name, value in (params or {}).items():
        _check_value(name[:80], value)


def _check_value(field: str, value: Any, *, any_length: bool = False) -> None:
    """A single one, and no longer than a text may be."""
    if isinstance(value, list | dict):
        refuse(field, f"a {type(value).__name__}", "give one value")
    if isinstance(value, str) and not any_length:
        text_of(field, value, most=MOST_LETTERS)


def _cells(form: str, given: Any, columns: Sequence[str], pictures: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """The cells of a form, each with its column."""
    if form in (_INSTANCES, _INPUTS):
        if pictures:
            refuse(form, f"{pictures[0]} in this form", f"send {RECORDS}")  # MLflow decodes base64 in frames alone
        if isinstance(given, dict):
            yield from _by_column(form, given)
            return
    names = columns
    if form == _SPLIT and isinstance(given, dict):
        names, given = _names_and_rows(given, columns)
    if not isinstance(given, list):
        refuse(form, type(given).__name__, "give a list of rows")
    _check_count(form, given)
    for row in given:
        if isinstance(row, dict):
            yield from row.items()
        elif isinstance(row, list) and form == _SPLIT:
            yield from zip(names, row, strict=False)  # that they differ is MLflow's to say
        elif form != RECORDS and len(names) == 1:
            yield names[0], row
        else:
            refuse(
                form, f"a row that is a {type(row).__name__}", f"give rows that name {', '.join(columns) or 'their columns'}"
            )


def _by_column(form: str, given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for column, cells in given.items():
        if isinstance(cells, list):
            _check_count(form, cells)
        for cell in cells if isinstance(cells, list) else [cells]:
            yield column, cell


def _names_and_rows(split: Mapping[str, Any], columns: Sequence[str]) -> tuple[Sequence[Any], Any]:
    """Of `dataframe_split`, whose index would repeat what is no list."""
    names, index = split.get("columns"), split.get("index")
    if isinstance(names, list) and len({str(name) for name in names}) < len(names):
        refuse("columns", f"a name that stands twice, in {str(names)[:80]},", "name each once")
    if isinstance(index, list):
        _check_count("index", index)
    return names if isinstance(names, list) else columns, split.get("data")


def _check_count(form: str, rows: Sequence[Any]) -> None:
    if len(rows) > MOST_ROWS:  # of none is told with the form that a model knows
        check_rows(len(rows), form)
