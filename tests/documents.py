"""The documents of the project, and the commands that they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PROGRAMS = ("fashion-ml", "make", "mlflow", "python", "pip", "sbatch", "mkdocs", "docker", "kubectl")
BEFORE = re.compile(r"""(\w+=("[^"]*"|'[^']*'|\S*) +|nohup +|uv run +|(\S*/)?bin/(?=\S))*""")
"""What may stand before a program without being it: settings of the environment, what starts it, the folder that it is in."""
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
    return [command for command in _of_blocks(document) if command.words]


def _of_blocks(document: Path) -> Iterator[Shown]:
    fenced, waiting, begun = "", "", 0
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = "" if fenced else line.strip().strip("`") or "text"
            continue
        where = f"{document.relative_to(PROJECT)}:{begun or number}"
        if waiting or fenced or line.startswith("    "):
            begun = begun or number
            waiting += line.strip().removeprefix("$ ")
            if waiting.endswith("\\"):
                waiting = waiting.removesuffix("\\")
                continue
            begins = waiting[BEFORE.match(waiting).end() :]  # type: ignore[union-attr]
            if fenced == "bash" or re.match(rf"({'|'.join(PROGRAMS)}) ", begins):
                yield from (Shown(where, words, whole=True) for words in split(waiting))
            waiting, begun = "", 0
        else:
            for text in re.findall(r"`([^`]+)`", line):
                program, _, rest = text[BEFORE.match(text).end() :].partition(" ")  # type: ignore[union-attr]
                begins = {"python": "-m ", "pip": "install "}.get(program, "")
                if program in PROGRAMS and rest and rest.startswith(begins):
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
    return [command[_wrapped(command) :] for command in commands if command]


def _wrapped(words: list[str]) -> int:
    """How many words only start the program; the folder that it is in is left out, in place."""
    count = 1 if words[0] == "nohup" else 2 if words[:2] == ["uv", "run"] else 0
    if count < len(words):
        words[count] = re.sub(r"^\S*/?bin/", "", words[count])
    return count
