"""Lines of text on a terminal: they break between words, never inside a number, an interval, a path or a command."""

from __future__ import annotations

import re

from rich.cells import cell_len

_WIDE = "\u1100-\u115f\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6"
_CLOSING = "，。；：、）」』！？］｝】》〉"
_OPENING = "（「『［｛【《〈"
_PIECE = rf"[{_OPENING}]*(?:\[[^\[\]]*\][^\s{_WIDE}]*|[{_WIDE}]|[^\s{_WIDE}]+)[{_CLOSING}]*|\s+"
"""An interval with what follows it, a wide character, a word, each with the marks that open and close it, or a space. Compiled when the first line is
too long, not while a command starts."""
_LABEL = re.compile(r"\S+(?: \S+)*? {2,}(?=\S)")


def wrapped(text: str, width: int) -> str:
    """A line as lines of at most `width` columns of a terminal, below a label of ten columns indented by as many, below an indented
    one by two more; longer words stay whole.

    >>> print(wrapped("Report    gain 0.041 [0.028, 0.055] of 24", 30))
    Report    gain 0.041
              [0.028, 0.055] of 24
    """
    if cell_len(text) <= width:
        return text
    label, margin = _LABEL.match(text), len(text) - len(text.lstrip())
    first = text[: label.end() if label and cell_len(label[0]) == 10 else margin]
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
