"""What every command's options share, and what they do with text from the command line."""

from __future__ import annotations

import json as json_format
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.printable import shown

_NARROWEST = 40
"""Columns that a table takes at least; a terminal with fewer cuts or wraps it."""
SETTINGS: dict[str, Any] = {
    "token_normalize_func": lambda token: token.replace("_", "-"),
    "help_option_names": ["-h", "--help"],
}
KEYS: dict[str, Any] = {
    "no_args_is_help": True,
    "rich_markup_mode": "rich",
    "context_settings": SETTINGS,
    "add_completion": False,
}
Retry = Annotated[
    bool, typer.Option("--retry-failed", help="Train once more what failed, with its settings, from where it had come to.")
]
Json = Annotated[str, typer.Option("--json", metavar="FILE", help="Also write the reported facts to FILE.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="a.b=c", help="Any setting, by its path in the file; may be repeated.")
]
Config = Annotated[str, typer.Option("--config", metavar="FILE", help="Experiment YAML.")]
Resume = Annotated[
    str,
    typer.Option(
        "--resume",
        metavar="[FOLDER|RUN]",
        help="Go on with the unfinished run of that folder or id; the latest when none is given.",
    ),
]
New = Annotated[bool, typer.Option("--new", help="Start over; what is in the output folder is moved aside.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, say what would be done and needed; no run, no file.")
]
NoEvaluate = Annotated[bool, typer.Option("--no-evaluate", help="Do not evaluate after training.")]


def option(*names: str, help: str) -> Any:
    """An option that takes one value as text; an empty one counts as not given."""
    return typer.Option(*names, metavar="VALUE", help=help)


def settings_given(
    given: Mapping[str, Any], set_: list[str] | None, *, no_evaluate: bool, resume: str, new: bool
) -> dict[str, Any]:
    """The settings that a training command was given, by options and over these by --set; InputError for contradictions."""
    if no_evaluate:
        if str(given.get("evaluation.enabled", "")).lower() in ("true", "1", "yes"):
            raise InputError(tr("evaluate: true and --no-evaluate contradict each other; give one of them"))
        given = {**given, "evaluation.enabled": "false"}
    if resume and new:
        raise InputError(tr("--new: contradicts --resume; give one of them"))
    return {**given, **assignments(set_)}


def assignments(pairs: list[str] | None) -> dict[str, str]:
    """What --set was given, by name. InputError for what is not of the form a.b=c."""
    result = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InputError(tr("--set: {pair!r} is not of the form a.b=c; write for example --set network.rank=8", pair=pair))
        result[name] = value
    return result


def whole(text: str, name: str) -> int:
    """The whole number that an option was given; InputError for anything else."""
    if not text.isdecimal():
        raise InputError(tr("{name}: {text!r} is not accepted; give a whole number", name=name, text=text))
    return int(text)


def check_json(path: str) -> None:
    """InputError, before any work, when --json cannot be written."""
    from fashion_ml.runtime.atomic_files import is_device

    if path and (not Path(path).absolute().parent.is_dir() or Path(path).is_dir() or is_device(Path(path))):
        raise InputError(tr("--json: {path!r} cannot be written; give a file in an existing folder", path=path))


def write_json(path: str, facts: dict[str, Any]) -> None:
    """Write the facts that a command reports, if --json was given."""
    if path:
        from fashion_ml.runtime.atomic_files import write_text

        write_text(Path(path), json_format.dumps(facts, indent=2, allow_nan=False) + "\n")


def counted(counts: Mapping[str, int]) -> str:
    """How many of the trainings of a study have come to what; what has none is left out."""
    names = {"complete": tr("complete"), "pruned": tr("pruned"), "failed": tr("failed"), "left": tr("left")}
    return ", ".join(f"{number} {names[name]}" for name, number in counts.items() if number or name == "complete")


def say(text: str, label: int | None = None) -> None:
    """One line of the result, on stdout; on a terminal it breaks between words, below a label of `label` columns."""
    from fashion_ml.runtime.wrapping import wrapped

    width = _width()
    for line in shown(text).split("\n"):
        typer.echo(line if width is None else wrapped(line, width, label))


def table(heads: list[str], rows: list[list[str]], left: int = 1) -> None:
    """Columns side by side, the first `left` to the left; on a terminal, or where COLUMNS says how wide it is, no wider than that."""
    from fashion_ml.runtime.columns import column_lines

    for line in column_lines(heads, [[shown(cell) for cell in row] for row in rows], _width(), left):
        typer.echo(line)


def _width() -> int | None:
    """Columns of the terminal that results go to; None for a file or a pipe."""
    if os.environ.get("COLUMNS", "").isdecimal() or sys.stdout.isatty():
        return max(shutil.get_terminal_size().columns, _NARROWEST)
    return None
