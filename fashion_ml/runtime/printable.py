"""Names of files as text that every file, store and terminal takes: Linux allows bytes in them that are no UTF-8."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

_SURROGATE = re.compile("[\ud800-\udfff]")
_MOVES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys instead of showing it: colours, the cursor, the window's title, the direction of letters. Not line feeds and tabs."""
_LOST = re.compile(r"[%#?\\]|(?<![^/]) ")


def printable(name: str) -> str:
    """The name with `~XX` for each byte that is not UTF-8 (a zip made under Windows in Taiwan leaves CP950); others stay as they are.

    A tilde, for MLflow finds no artifact whose name has a per cent sign.
    """
    return name if name.isascii() else _SURROGATE.sub(_escaped, name)


def shown(text: str) -> str:
    r"""What is said, with names of others' files in it, for a terminal: `printable`, and with `\x1b` for a character that it would obey."""
    return _MOVES.sub(lambda found: found[0].encode("unicode_escape").decode(), printable(text))


def storable(name: str) -> str:
    """A path whose parts MLflow's stores give back: `~25` for a per cent sign, which they decode, likewise for `#`, `?` and backslashes, where
    their addresses end, and for a space in front, which they strip."""
    return _LOST.sub(lambda found: f"~{ord(found[0]):02X}", name)


def is_printable(name: str) -> bool:
    """Whether all of a name is UTF-8."""
    return name.isascii() or not _SURROGATE.search(name)


def composed(name: str) -> str:
    """The name in one spelling (NFC): macOS writes é as e and an accent, other systems as one character."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"~{code - 0xDC00:02X}" if 0xDC80 <= code <= 0xDCFF else f"~u{code:04X}"


def near(path: Path) -> str:
    """A path as short as it can be said: below the working folder from there, else whole.

    >>> near(Path.cwd() / "outputs" / "run"), near(Path("/models/sd15"))
    ('outputs/run', '/models/sd15')
    """
    try:
        here = Path.cwd()
    except OSError:  # it was removed
        return str(path)
    return str(path.relative_to(here)) if path.is_relative_to(here) and path != here else str(path)
