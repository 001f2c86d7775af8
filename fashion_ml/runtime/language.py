"""In which language people are spoken to: `--lang`, else what the environment says; and the words of each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

from fashion_ml.errors import InputError

Language = Literal["en", "zh-TW"]
VARIABLE = "FASHION_ML_LANG"
"""What `--lang` sets; the command line sets it for the processes of a sweep too, so that they speak as their parent does."""
CATALOGUE = Path(__file__).parents[1] / "locale" / "zh_TW" / "LC_MESSAGES" / "fashion_ml.po"
_OF_SYSTEM = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


def language() -> Language:
    """`zh-TW` where FASHION_ML_LANG says so, as the command line has it; English elsewhere, so in a program that asked for nothing."""
    return "zh-TW" if os.environ.get(VARIABLE, "").lower().startswith("zh") else "en"


def html_language() -> str:
    """The same as pages name it."""
    return "zh-Hant-TW" if language() == "zh-TW" else "en"


def language_of(environment: Mapping[str, str]) -> Language:
    """`zh-TW` where the first of FASHION_ML_LANG, LANGUAGE, LC_ALL, LC_MESSAGES and LANG that names a language begins with zh, else English.

    C and POSIX name none."""
    named = [environment.get(name, "").split(":")[0] for name in (VARIABLE, *_OF_SYSTEM)]
    first = next((value for value in named if value and value.split(".")[0] not in ("C", "POSIX")), "")
    return "zh-TW" if first.lower().startswith("zh") else "en"


def set_language(value: str) -> None:
    """Speak a language for the rest of this process and in those that it starts. InputError for others than en and zh-TW."""
    plain = value.lower().replace("_", "-")
    if plain not in ("en", "zh", "zh-tw", "zh-hant"):
        raise InputError(tr("--lang: {value!r} is not accepted; give en or zh-TW", value=value))
    os.environ[VARIABLE] = "en" if plain == "en" else "zh-TW"


@contextmanager
def speaking(value: Language) -> Iterator[None]:
    """Inside the block everything is said in one language: for what is written for others than who runs the command."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def tr(message: str, /, **values: object) -> str:
    """A message in the language, with values put into its places.

    The message is a literal, so that `python -m fashion_ml.runtime.catalogue` finds it; names of settings, metrics and files in it stay.

    >>> tr("{steps} steps", steps=3)
    '3 steps'
    """
    return translated(message, **values)


def marked(message: str) -> str:
    """A message as it is, for the catalogue to have it: a constant that is said later, by `translated`."""
    return message


def translated(message: str, /, **values: object) -> str:
    """As `tr`, of a message that was marked where it stands."""
    told = message if language() == "en" else _messages().get(message, message)
    return told.format(**values) if values else told


@cache
def _messages() -> Mapping[str, str]:
    from fashion_ml.runtime.po_file import read_po

    return {entry.message: entry.translation for entry in read_po(CATALOGUE) if entry.translation and not entry.fuzzy}
