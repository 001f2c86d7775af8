"""Words inside a text that are looked for as whole ones."""

from __future__ import annotations

import re


def whole_word(words: str) -> re.Pattern[str]:
    """Finds words as whole ones, in any case: no letter of a to z, digit or _ beside them; scripts without spaces may stand there."""
    return re.compile(rf"(?<![A-Za-z0-9_]){re.escape(words)}(?![A-Za-z0-9_])", re.IGNORECASE)
