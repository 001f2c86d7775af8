"""What a user can mend: one line each, naming field, value and fix. At the command line they end with exit code 2."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

_MOST, _AHEAD, _BEHIND = 3000, 2000, 700
"""Characters of a line, and what is kept of a longer one: the setting at its beginning, and the fix at its end."""


class InputError(ValueError):
    """One or more problems with what the user gave; `problems` holds one line for each, all found at once."""

    def __init__(self, problems: str | Sequence[str]):
        self.problems = [_shortened(one) for one in ([problems] if isinstance(problems, str) else problems)]
        super().__init__("\n".join(self.problems))


def _shortened(problem: str) -> str:
    return problem if len(problem) <= _MOST else f"{problem[:_AHEAD]} … {problem[-_BEHIND:]}"


@contextmanager
def in_pythons_words(arguments: Mapping[str, str]) -> Iterator[None]:
    """Around what a Python function does: its InputErrors name arguments where the command line's name options.

    `arguments` are what some options and settings are called instead, such as `--new`: `new=True`; of others `--encoder NAME` becomes
    `encoder="NAME"`, and an option alone its name.
    """
    try:
        yield
    except InputError as error:
        raise InputError([_in_pythons_words(problem, arguments) for problem in error.problems]) from error


_OPTION = r"(?<![\w'/-])--([a-z][\w-]*)"
"""Not inside a file's name."""


def _in_pythons_words(problem: str, arguments: Mapping[str, str]) -> str:
    for name in sorted(arguments, key=len, reverse=True):
        problem = re.sub(rf"(?<![\w'/.-]){re.escape(name)}(?![\w.-])", arguments[name], problem)
    problem = re.sub(rf"{_OPTION} ([\w.]+)=VALUE", r'{"\2": VALUE}', problem)  # --set
    problem = re.sub(rf"{_OPTION} (embedded|[a-z]+_[a-z]+|[\w.-]+/[\w.-]+)(?![\w/])", _assigned, problem)
    return re.sub(_OPTION, lambda match: match[1].replace("-", "_"), problem)


def _assigned(match: re.Match[str]) -> str:
    name, value = match[1].replace("-", "_"), match[2]
    return f'{name}=["{value}"]' if name == "without" else f'{name}="{value}"'
