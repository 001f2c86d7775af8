"""Command lines as the shells of Linux and Windows read them: their words, with the variables that a script sets put in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_NAME = r"[A-Za-z_]\w*"
_LONGEST_VALUE = 10_000
"""Characters of a variable; a longer one is as one that is not known: sixty lines that double each other's have more than any memory."""


@dataclass(frozen=True)
class Shell:
    """How a shell writes things, as regular expressions."""

    escape: str
    """The sign before what is meant as it stands; at the end of a line the line goes on."""
    escaped: str
    """What it stands before outside of quotations; elsewhere it is a sign like others, as a backslash is in paths of Windows."""
    escaped_in_text: str
    plain: str
    """A quotation in which nothing is put in."""
    text: str
    """One in which variables are put in."""
    variable: str
    """`name` is a variable's; without it the shell works something out while it runs."""
    assigned: str
    """A line that gives a variable its value."""
    comment: str


SH = Shell(
    escape=r"\\",
    escaped=r"[^\w.\-]",
    escaped_in_text=r"[\"\\$`]",
    plain=r"'(?P<plain>[^']*)'",
    text=r"\"(?P<text>(?:\\.|[^\"\\])*)\"",
    variable=rf"\$\{{(?P<braced>{_NAME})(?P<default>:?-[^}}]*)?\}}|\$(?P<name>{_NAME})|\$\{{[^}}]*\}}|\$\([^)]*\)|\$[@*#?\d]|`[^`]*`",
    assigned=rf"\s*(?:(?:export|local|readonly|declare|set)\s+)?(?P<name>{_NAME})(?P<more>\+?)=(?P<value>.*)",
    comment=r"(?<!\S)#.*",
)
CMD = Shell(
    escape=r"\^",
    escaped=r".",
    escaped_in_text=r"(?!)",
    plain=r"(?<![^\s=])'(?P<plain>[^']*)'",
    text=r"\"(?P<text>[^\"]*)\"",
    variable=rf"%(?P<braced>{_NAME})(?P<default>(?!))?%|!(?P<name>{_NAME})!|%~[a-z]*\d|%[\d*]",
    assigned=rf"\s*@?set\s+(?:/a\s+)?(?P<quote>\")?(?P<name>{_NAME})\s*(?P<more>)=(?P<value>.*?)(?(quote)\"|)\s*",
    comment=r"^\s*@?(?:rem\b|::).*",
)
POWERSHELL = Shell(
    escape="`",
    escaped=r".",
    escaped_in_text=r"[\"$`]",
    plain=r"'(?P<plain>[^']*)'",
    text=r"\"(?P<text>(?:`.|[^\"`])*)\"",
    variable=rf"\$(?:\{{(?:env:)?|\(\$)(?P<braced>{_NAME})(?P<default>(?!))?[}})]|\$(?:env:)?(?P<name>{_NAME})\b(?!\.\w+\(|[\[:])|\$\([^)]*\)"
    rf"|\$[\w:.]+(?:\[[^\]]*\])?|(?<!\S)@{_NAME}",
    assigned=rf"\s*(?:\[[\w.\[\]]+\]\s*)?\$(?:env:)?(?P<name>{_NAME})\s*(?P<more>\+?)=(?P<value>.*)",
    comment=r"(?<!\S)#.*",
)
_BY_ENDING = {".sh": SH, ".bat": CMD, ".cmd": CMD, ".ps1": POWERSHELL}
_ANOTHER_COMMAND = r"(?<!\S)(?:\d?>{1,2}|\d>&\d|&&?|\|\|?|;)"
_SET = {"HOME": "~", "home": "~", "userprofile": "~", "true": "true", "false": "false"}
"""By their names, those of Windows in lower case, where capitals are the same."""
_FLAGS = re.DOTALL | re.IGNORECASE


@dataclass
class Line:
    """The words of a command."""

    words: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """What the shell would work out while it runs; it is left out, with the option whose value it is."""
    ends: bool = True
    """Off when a quotation does not."""
    left_out_at: int = -1
    """Words before the last thing that is unknown."""


def lines_of(script: str, ending: str = "") -> Iterator[Line]:
    """The commands of a script: lines that go on are put together, and variables that lines before set are put in.

    The `ending` of its file tells the shell; without one that is known the text does.
    """
    shell = _BY_ENDING.get(ending.lower()) or shell_of(script)
    whole = re.sub(r"<#.*?#>", "", script, flags=re.DOTALL) if shell is POWERSHELL else script
    variables = dict(_SET)
    for line in re.sub(rf"{shell.escape}[ \t]*\r?\n", " ", whole).splitlines():
        assigned = re.fullmatch(shell.assigned, line, _FLAGS)
        value = _value(assigned, shell, variables) if assigned else None
        if assigned:
            name = _key(assigned["name"], shell)
            variables.pop(name, None)  # a list, or what a command gives, is not known
            variables |= {name: value} if value is not None and len(value) <= _LONGEST_VALUE else {}
        else:
            yield words_of(line, shell, variables)


def shell_of(script: str) -> Shell:
    """The shell that a text is for, by how its lines go on; else by its variables and paths."""
    for shell in (POWERSHELL, CMD, SH):
        if re.search(rf"{shell.escape}[ \t]*$", script.rstrip(), re.MULTILINE):
            return shell
    if re.search(
        POWERSHELL.assigned.replace(r"\s*", r"[ \t]*", 1).join((r"^(?:", r")$")), script, re.MULTILINE | re.IGNORECASE
    ):
        return POWERSHELL
    windows = re.search(rf"(?<!\w)[A-Z]:\\|^\s*@?set\s|%{_NAME}%", script, re.MULTILINE | re.IGNORECASE)
    return CMD if windows else SH


def words_of(line: str, shell: Shell = SH, variables: Mapping[str, str] | None = None) -> Line:
    """The words of one command, without what is behind it: another command, or where its output goes."""
    found, known = Line(), {} if variables is None else variables
    word, unknown, begun = "", list[str](), False
    for token in _tokens(re.sub(shell.comment, "", line, flags=re.IGNORECASE), shell):
        if token["space"] is not None:
            _add(found, word, unknown, begun)
            word, unknown, begun = "", [], False
        elif token["another"] is not None:
            break
        elif token["variable"] is not None:
            value = _put_in(token["variable"], shell, known, unknown)
            several = shell is not POWERSHELL and not begun and value.startswith("--")
            found.words += value.split() if several else []
            word, begun = word + (value if not several else ""), not several
        else:
            found.ends &= token["open"] is None
            text = _put_in(token["text"], shell, known, unknown) if token["text"] is not None else None
            parts = (token["plain"], text, token["escaped"] and token["escaped"][1:], token["other"])
            word, begun = word + next((part for part in parts if part is not None), ""), True
    _add(found, word, unknown, begun)
    return found


def _value(assigned: re.Match[str], shell: Shell, variables: Mapping[str, str]) -> str | None:
    """What a variable is set to; None where that is no plain text."""
    text, unknown = assigned["value"].strip(), list[str]()
    if assigned["more"] or text.startswith(("@", "(", "[")):
        return None
    if shell is CMD:
        value = _put_in(text, shell, variables, unknown)
        return None if unknown else value
    line = words_of(text, shell, variables)
    return "".join(line.words) if len(line.words) < 2 and not line.unknown and line.ends else None


def _tokens(line: str, shell: Shell) -> Iterator[re.Match[str]]:
    variable = re.sub(r"\?P<\w+>", "?:", shell.variable)
    kinds = (
        rf"(?P<space>\s+)|(?P<another>{_ANOTHER_COMMAND})|{shell.plain}|{shell.text}|(?P<variable>{variable})",
        rf"(?P<escaped>{shell.escape}{shell.escaped})|(?P<open>[\"{'' if shell is CMD else chr(39)}])|(?P<other>.)",
    )
    return re.finditer("|".join(kinds), line, _FLAGS)


def _put_in(text: str, shell: Shell, variables: Mapping[str, str], unknown: list[str]) -> str:
    """With the values of variables, and what is escaped as it is meant; what is not known goes into `unknown`."""

    def value(found: re.Match[str]) -> str:
        if found["escaped"] is not None:
            return found["escaped"][1:]
        name, default = _key(found["braced"] or found["name"] or "", shell), found["default"]
        if name not in variables and default is None:
            unknown.append(found[0])
        return variables.get(name, (default or "").lstrip(":-"))

    return re.sub(rf"(?P<escaped>{shell.escape}{shell.escaped_in_text})|{shell.variable}", value, text, flags=_FLAGS)


def _key(name: str, shell: Shell) -> str:
    return name if shell is SH else name.lower()


def _add(found: Line, word: str, unknown: list[str], begun: bool) -> None:
    """A finished word. One of which a part is not known is left out: with the option before it, unless it is a list of words itself."""
    if not unknown:
        found.words += [word] if begun else []
        return
    said, before = ", ".join(unknown), found.words[-1] if found.words else ""
    is_list = any(re.search(r"[@*]|args?\b|options?\b|params?\b", one, re.IGNORECASE) for one in unknown)
    if word.startswith("--"):
        said = f"{word.partition('=')[0]}={said}"
    elif before.startswith("--") and "=" not in before and not is_list and found.left_out_at != len(found.words):
        said = f"{found.words.pop()} {said}"
    found.unknown.append(said)
    found.left_out_at = len(found.words)
