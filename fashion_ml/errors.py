"""What a user can mend: one line each, naming field, value and fix. At the command line they end with exit code 2."""

from __future__ import annotations

import re
from collections.abc import Sequence

_CREDENTIALS = re.compile(r"(?<=//)[^/@\s'\"]+@")


class InputError(ValueError):
    """One or more problems with what the user gave; `problems` holds one line for each, all found at once."""

    def __init__(self, problems: str | Sequence[str]):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


def without_credentials(text: str) -> str:
    """A text without the user and password of any URL in it."""
    return _CREDENTIALS.sub("", text)
