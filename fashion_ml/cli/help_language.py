"""What typer says, in the language: `--help` of commands and of their own options, and what is wrong with a command line.

Settings keep the English of docs/settings.md.
"""

from __future__ import annotations

import re
from typing import Any

from fashion_ml.runtime.language import marked, translated

_USAGE = {
    r"No such option: (?P<name>\S+)": marked("there is no option {name}"),
    r"No such option: (?P<name>\S+) \(Possible options?: (?P<near>.*)\)": marked(
        "there is no option {name}; did you mean {near}?"
    ),
    r"No such command '(?P<name>.*)'\.": marked("there is no command {name!r}"),
    r"No such command '(?P<name>.*)'\. Did you mean '(?P<near>.*)'\?": marked(
        "there is no command {name!r}; did you mean {near}?"
    ),
    r"Missing (?:argument|option) '(?P<name>.*)'\.": marked("{name} is not given"),
    r"Missing command\.": marked("no command is given"),
    r"Option '(?P<name>.*)' requires an argument\.": marked("{name} takes a value"),
    r"Got unexpected extra arguments?(?:\(s\))? \((?P<name>.*)\)": marked("{name} was not expected here"),
}
"""What typer says of a command line, and the message for other languages."""


def translate_help(command: Any) -> None:
    """Put the language's words in the place of the help of a command, of its options, and of all commands below it."""
    for told in (command, *command.params):
        if getattr(told, "help", None):
            told.help = translated(told.help)
    for below in getattr(command, "commands", {}).values():
        translate_help(below)


def usage_problem(said: str) -> str:
    """What typer says of a command line, in the language; as it is where it says something else."""
    for pattern, message in _USAGE.items():
        if found := re.fullmatch(pattern, said):
            return translated(message, **found.groupdict())
    return said
