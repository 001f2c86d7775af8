"""A line of error taken apart again, in whichever language it was said."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fashion_ml.runtime.language import tr

_ENGLISH = "error: "


def without_field(line: str) -> str:
    """What is behind the setting that a line names.

    >>> without_field("resume: the run has ended"), without_field("resume：這個 run 已結束")
    ('the run has ended', '這個 run 已結束')
    """
    return re.split(r": |：", line, maxsplit=1)[-1]


def found_and_fix(line: str) -> tuple[str, str]:
    """What was found and what to do, which is empty where the line does not say it.

    >>> found_and_fix("encoder: is not there; give another"), found_and_fix("encoder：不存在；請給別的")
    (('encoder: is not there', 'give another'), ('encoder：不存在', '請給別的'))
    """
    found, *fix = re.split(r"; |；", line, maxsplit=1)
    return found, "".join(fix)


def errors_among(lines: Sequence[str]) -> list[str]:
    """The errors among what a command has said, without the word that marks them."""
    begins = _ENGLISH, tr("error: {shortened}", shortened="")
    return [line[len(begin) :] for line in lines for begin in dict.fromkeys(begins) if line.startswith(begin)]
