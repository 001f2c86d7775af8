"""Tables of text that fit a width: a cell breaks between its parts, never inside a number or an interval, and columns go below one another."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from fashion_ml.runtime.wrapping import CLOSING, OPENING, WIDE

_GAP = 2
_WHOLE = r"\[[^\]]*\]|\([^()]{1,16}\)|\S*（[^（）]{1,16}）"
_PART = re.compile(rf"(\s*)({_WHOLE}|\S+)")
"""What a cell does not break inside of, and the space before it: an interval in brackets, some words in them, a word, a number."""
_PART_OF_TEXT = re.compile(rf"(\s*)({_WHOLE}|[{OPENING}]*(?:[{WIDE}]|[^\s{WIDE}]+)[{CLOSING}]*)")
"""The same of a text at the left, which breaks between wide characters too: names may be of these alone."""
_LEAST = 16
"""Columns of a terminal that a text at the left keeps, where it has as many."""


def column_lines(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, left: int = 1) -> list[str]:
    """The lines of a table of at most `width` columns of a terminal; of as many as it needs for None. The first `left` columns stand left.

    What is too wide breaks in its cells, between numbers and their intervals and between words; what is still too wide goes below, in a
    second table with the first column again. One part that is wider than all of the width stays whole.
    """
    if width is None:
        return _lines(heads, rows, [_widest(column) for column in _columns(heads, rows)], left)
    lines: list[str] = []
    for number, group in enumerate(_groups(heads, rows, width, left)):
        lines += [""] if number else []
        part_heads = [heads[place] for place in group]
        part = [[row[place] for place in group] for row in rows]
        at_left = sum(place < left for place in group)
        lines += _lines(part_heads, part, _fitted(_columns(part_heads, part), width, at_left), at_left)
    return lines


def _columns(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[head, *(row[place] for row in rows)] for place, head in enumerate(heads)]


def _widest(cells: Sequence[str]) -> int:
    return max(map(cell_len, cells), default=0)


def _narrowest(cells: Sequence[str], *, left: bool) -> int:
    """The widest part of any cell."""
    pattern = _PART_OF_TEXT if left else _PART
    return max((cell_len(part) for cell in cells for _, part in pattern.findall(cell)), default=0)


def _floor(cells: Sequence[str], *, left: bool) -> int:
    """The fewest columns of a terminal that cells are given."""
    return max(_narrowest(cells, left=left), min(_LEAST, _widest(cells)) if left else 0)


def _groups(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int, left: int) -> list[list[int]]:
    """Which columns stand side by side; the first is in every group."""
    least = [_floor(one, left=place < left) for place, one in enumerate(_columns(heads, rows))]
    groups, used = [[0]], least[0]
    for place in range(1, len(heads)):
        if used + _GAP + least[place] > width and len(groups[-1]) > 1:
            groups.append([0])
            used = least[0]
        groups[-1].append(place)
        used += _GAP + least[place]
    return groups


def _fitted(columns: Sequence[Sequence[str]], width: int, left: int) -> list[int]:
    """The widths of columns: the widest at the left gives way first, then any that has an interval or words to break at."""
    widths = [_widest(one) for one in columns]
    free = width - _GAP * (len(columns) - 1)
    for place in sorted(range(len(columns)), key=lambda one: (one >= left, -widths[one])):
        wanted = min(widths[place], widths[place] - (sum(widths) - free))
        widths[place] = max(wanted, _floor(columns[place], left=place < left))
    return widths


def _lines(heads: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int], left: int) -> list[str]:
    lines = []
    for row in (heads, *rows):
        cells = [_broken(cell, width, left=place < left) for place, (cell, width) in enumerate(zip(row, widths, strict=True))]
        for number in range(max(map(len, cells))):
            parts = [cell[number] if number < len(cell) else "" for cell in cells]
            placed = [_placed(part, widths[place], left=place < left) for place, part in enumerate(parts)]
            lines.append((" " * _GAP).join(placed).rstrip())
    return lines


def _placed(text: str, width: int, *, left: bool) -> str:
    width = max(width, cell_len(text))
    return set_cell_size(text, width) if left else " " * (width - cell_len(text)) + text


def _broken(cell: str, width: int, *, left: bool) -> list[str]:
    """A cell's lines; whole where it fits, and without what separates them where it breaks."""
    if cell_len(cell) <= width:
        return [cell]
    lines: list[str] = []
    for space, part in (_PART_OF_TEXT if left else _PART).findall(cell):
        apart = " " if space else ""
        if lines and cell_len(lines[-1]) + len(apart) + cell_len(part) <= width:
            lines[-1] += apart + part
        else:
            lines.append(part)
    return lines or [""]
