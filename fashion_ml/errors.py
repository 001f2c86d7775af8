"""What a user can mend: one line each, naming field, value and fix. At the command line they end with exit code 2."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

_SHORTEST_SECRET = 6
_SECRET_NAMES = ("PASSWORD", "TOKEN", "SECRET", "ACCESS_KEY", "API_KEY")
_CREDENTIALS = re.compile(r"(?<=//)[^/@\s'\"]+@")


class InputError(ValueError):
    """One or more problems with what the user gave; `problems` holds one line for each, all found at once."""

    def __init__(self, problems: str | Sequence[str]):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


def without_credentials(text: str) -> str:
    """A text without the user and password of any URL in it."""
    return _CREDENTIALS.sub("", text)


def without_secrets(text: str) -> str:
    """As `without_credentials`, for long texts of any origin: without the passwords and tokens that this process's environment holds, too."""
    values = [value for name, value in os.environ.items() if name.upper().endswith(_SECRET_NAMES)]
    for uri in os.environ.values():
        values += re.findall(r"//[^/@\s:]*:([^/@\s]+)@", uri)
    text = without_credentials(text)
    for value in values:
        if len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "[secret]")
    return text
