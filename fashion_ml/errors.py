"""What a user can mend: one line each, naming field, value and fix. At the command line they end with exit code 2."""

from __future__ import annotations

from collections.abc import Sequence


class InputError(ValueError):
    """One or more problems with what the user gave; `problems` holds one line for each, all found at once."""

    def __init__(self, problems: str | Sequence[str]):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))
