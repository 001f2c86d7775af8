"""In which language findings are told: `--lang`, else what the environment says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from fashion_ml.errors import InputError

Language = Literal["en", "zh-TW"]
VARIABLE = "FASHION_ML_LANG"
"""Set by `--lang`, so that the processes of a sweep speak as their parent does."""
_OF_SYSTEM = ("LC_ALL", "LC_MESSAGES", "LANG")


def language(environment: Mapping[str, str] | None = None) -> Language:
    """`zh-TW` where the first of FASHION_ML_LANG, LC_ALL, LC_MESSAGES and LANG that names a language begins with zh; English elsewhere.

    C and POSIX name none."""
    given = os.environ if environment is None else environment
    named = [given.get(name, "") for name in (VARIABLE, *_OF_SYSTEM)]
    first = next((value for value in named if value and value.split(".")[0] not in ("C", "POSIX")), "")
    return "zh-TW" if first.lower().startswith("zh") else "en"


def set_language(value: str) -> None:
    """Tell findings in a language for the rest of this process and in those that it starts. InputError for others than en and zh-TW."""
    plain = value.lower().replace("_", "-")
    if plain not in ("en", "zh", "zh-tw", "zh-hant"):
        raise InputError(f"--lang: {value!r} is not accepted; give en or zh-TW")
    os.environ[VARIABLE] = "en" if plain == "en" else "zh-TW"
