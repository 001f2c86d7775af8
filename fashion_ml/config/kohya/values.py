"""Values of sd-scripts' options, as files, forms and command lines spell them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fashion_ml.config.kohya.shell import words_of
from fashion_ml.runtime.language import tr


def is_nothing(value: Any) -> bool:
    """Whether a value says that something is not wanted: nothing, false, 0, or an empty list, as text too."""
    if isinstance(value, str):
        return value.strip().lower() in ("", "none", "false", "no", "0", "0.0", "[]")
    return not value


def is_true(value: Any) -> bool:
    """Whether a switch is on, as a flag alone, in a file or as text."""
    return value is True or str(value).strip().lower() in ("true", "1", "yes")


def whole(given: Mapping[str, Any], name: str) -> int:
    """A whole number; 0 when it is not given. ValueError when it is none."""
    value = given.get(name)
    if is_nothing(value):
        return 0
    return int(number(name, value))


def number(name: str, value: Any) -> float:
    """A number. ValueError that names the option when it is none."""
    if isinstance(value, (list, tuple)) and value:
        value = value[0]
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(tr("{name}: {value!r} is no number; write one", name=name, value=value))
    return found


def side_of(name: str, value: Any) -> tuple[int, int]:
    """Width and height of `512`, `512,640` or `[512, 640]`. ValueError when it is none of these."""
    parts = list(value) if isinstance(value, (list, tuple)) else str(value).replace("x", ",").split(",")
    try:
        sides = [int(float(part)) for part in parts]
    except (TypeError, ValueError, OverflowError):
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise ValueError(tr("{name}: {value!r} is no size; write 512 or 512,512", name=name, value=value))
    return sides[0], sides[-1]


def assignments_of(name: str, value: Any) -> dict[str, str]:
    """What `--network_args "conv_dim=4" "conv_alpha=1"` gives: a list, or all in one text. ValueError for what is not of the form a=b."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    words = [word for one in parts for word in words_of(str(one)).words]
    wrong = [word for word in words if "=" not in word.strip("=")]
    if wrong:
        raise ValueError(
            tr("{name}: {wrong!r} is not of the form key=value; write for example conv_dim=4", name=name, wrong=wrong[0])
        )
    pairs = (word.split("=", 1) for word in words)
    return {key.strip(): text.strip().strip("\"'") for key, text in pairs}
