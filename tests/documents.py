"""The documents of the project, and the commands that they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PROGRAMS = ("fashion-ml", "make", "mlflow", "python", "pip", "sbatch", "mkdocs")
DOCUMENTS = sorted([*PROJECT.glob("README*.md"), *(PROJECT / "docs").rglob("*.md"), *PROJECT.glob("s*/README.md")])


@dataclass(frozen=True)
class Shown:
    """A command as a document shows it."""

    where: str
    """File and line."""
    words: list[str]
    """Without its environment, comment and redirection."""
    whole: bool
    """Off in running text, which may name a command without what it is to be given."""


def shown(document: Path) -> list[Shown]:
    """The commands of fenced and indented blocks, and those in running text between back-ticks, in the order of their lines."""
    found = list(_of_blocks(document))
    return [command for command in found if command.words and command.words[0] in PROGRAMS]


def _of_blocks(document: Path) -> Iterator[Shown]:
    fenced, waiting, begun = False, "", 0
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            continue
        where = f"{document.relative_to(PROJECT)}:{begun or number}"
        if waiting or fenced or line.startswith("    "):
            begun = begun or number
            waiting += line.strip().removeprefix("$ ")
            if waiting.endswith("\\"):
                waiting = waiting.removesuffix("\\")
                continue
            if re.match(rf"(\w+=\S* )*({'|'.join(PROGRAMS)}) ", waiting):
                yield from (Shown(where, words, whole=True) for words in split(waiting))
            waiting, begun = "", 0
        else:
            for text in re.findall(r"`([^`]+)`", line):
                if text.startswith(("fashion-ml ", "make ", "mlflow ", "python -m ", "pip install ", "sbatch ")):
                    yield from (Shown(where, words, whole=False) for words in split(text))


def split(line: str) -> list[list[str]]:
    """The words of each command of a line: comments, assignments before it and what it is redirected to are left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    words = iter(lexer)
    for word in words:
        if word in (";", "&", "&&", "|", "||"):
            commands.append([])
        elif set(word) <= set("<>&") and word:
            next(words, "")
        elif not (commands[-1] == [] and re.fullmatch(r"\w+=.*", word)):
            commands[-1].append(word)
    return [command for command in commands if command]
