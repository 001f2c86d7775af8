"""Lines of text on a terminal: they break between words, never inside a number, an interval, a path or a command."""

from __future__ import annotations

import re

from rich.cells import cell_len, set_cell_size

WIDE = "\u1100-\u115f\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6"
CLOSING = "，。；：、）」』！？］｝】》〉"
OPENING = "（「『［｛【《〈"
_PIECE = rf"[{OPENING}]*(?:\[[^\[\]]*\][^\s{WIDE}]*|[{WIDE}]|[^\s{WIDE}]+)[{CLOSING}]*|\s+"
"""An interval with what follows it, a wide character, a word, each with the marks that open and close it, or a space. Compiled when the first
line is too long, not while a command starts."""
_LABEL = re.compile(r"\S+(?: \S+)*? {2,}(?=\S)")


def wrapped(text: str, width: int, label: int | None = None) -> str:
    """A line as lines of at most `width` columns of a terminal, below a label of ten columns (or of `label`) indented by as many, below an
    indented one by two more; longer words stay whole.

    >>> print(wrapped("Report    gain 0.041 [0.028, 0.055] of 24", 30))
    Report    gain 0.041
              [0.028, 0.055] of 24
    """
    if cell_len(text) <= width:
        return text
    found, margin = _LABEL.match(text), len(text) - len(text.lstrip())
    first = text[: found.end() if found and cell_len(found[0]) == 10 else margin]
    if label is not None:
        first = set_cell_size(text, label)
    indent = " " * (margin + 2 if margin else cell_len(first))
    lines, begun = [first], False
    for piece in re.findall(_PIECE, text[len(first) :]):
        fits = cell_len(lines[-1]) + cell_len(piece) <= width
        if not begun or fits:
            lines[-1] += piece
            begun = begun or bool(piece.strip())
        elif piece.strip():
            lines[-1] = lines[-1].rstrip()
            lines.append(indent + piece)
    return "\n".join(lines).rstrip()
