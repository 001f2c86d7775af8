"""The names of folders `N_class`: how often their images are seen, and what they show."""

from __future__ import annotations

import re

from fashion_ml.runtime.language import tr

CLASS_FOLDER = re.compile(r"(\d+)_(.+)", re.DOTALL)
MOST_REPEATS = 10_000
"""Of a folder's images in one epoch; a larger number is a date, or another's count."""


def wrong_name(name: re.Match[str]) -> str:
    """What is wrong with a folder's name: its number, or a line break in it; empty where nothing is."""
    if name[0].splitlines() != [name[0]]:
        return tr(
            "has a line break in its name, and a class is one line, as a caption is; call it {value!r}",
            value=" ".join(name[0].split()),
        )
    digits = name[1].lstrip("0") or "0"
    if digits == "0":
        return tr("asks for 0 repeats; the number before _ must be at least 1")
    if len(digits) <= len(str(MOST_REPEATS)) and int(digits) <= MOST_REPEATS:
        return ""
    return tr(
        "asks for {digits} repeats, and {most_repeats:,} are the most; the number before _ is how often an "
        "image is seen in one epoch: call it {value!r}, say",
        digits=digits[:20],
        most_repeats=MOST_REPEATS,
        value=f"1_{name[2]}",
    )
