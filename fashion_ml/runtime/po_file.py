"""Catalogues of messages in gettext's text form (`.po`), as editors of translations read them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fashion_ml.runtime.atomic_files import write_text

_HEAD = """\
# Messages of fashion_ml in Traditional Chinese as written in Taiwan.
# `python -m fashion_ml.runtime.catalogue` brings them up to date with the code.
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Language: zh_TW\\n"
"Plural-Forms: nplurals=1; plural=0;\\n"
"""


@dataclass
class Entry:
    """A message, what it is in the other language (empty where that is missing), and the files it is in."""

    message: str
    translation: str = ""
    files: list[str] = field(default_factory=list)
    fuzzy: bool = False
    """Somebody's guess, which is not shown."""


def read_po(path: Path) -> list[Entry]:
    """The entries of a catalogue, without its head. ValueError, with the line's number, for what is no catalogue."""
    entries: list[Entry] = []
    entry, into = Entry(""), ""
    for number, line in enumerate([*path.read_text(encoding="utf-8").splitlines(), ""], 1):
        if not line.strip():
            entries += [entry] if entry.message else []
            entry, into = Entry(""), ""
        elif line.startswith("#"):
            entry.fuzzy |= line.startswith("#,") and "fuzzy" in line
            entry.files += line[2:].split() if line.startswith("#:") else []
        else:
            word, _, rest = line.partition(" ")
            into, text = (into, line) if line.startswith('"') else (word, rest)
            if into not in ("msgid", "msgstr"):
                raise ValueError(f"{path}, line {number}: {line!r} is neither msgid, msgstr, nor text that goes on with one")
            value = json.loads(text)
            if into == "msgid":
                entry.message += value
            else:
                entry.translation += value
    return entries


def write_po(path: Path, entries: Iterable[Entry]) -> None:
    """Write a catalogue atomically."""
    write_text(path, "\n".join([_HEAD, *map(_block, entries)]))


def _block(entry: Entry) -> str:
    lines = [f"#: {' '.join(entry.files)}"] if entry.files else []
    lines += ["#, fuzzy"] if entry.fuzzy else []
    texts = [
        f"{word} {json.dumps(text, ensure_ascii=False)}"
        for word, text in (("msgid", entry.message), ("msgstr", entry.translation))
    ]
    return "\n".join([*lines, *texts]) + "\n"
