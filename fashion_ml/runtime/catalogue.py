"""Every message that the code marks, and the catalogue brought up to date with them: `python -m fashion_ml.runtime.catalogue`.

Help of commands and of their options needs no mark. Another message is marked by `tr("…")`, in Python and in the templates of pages, or by
`marked("…")` where it stands and is said elsewhere.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from string import Formatter

from fashion_ml.runtime.language import CATALOGUE
from fashion_ml.runtime.po_file import Entry, read_po, write_po

_PACKAGE = Path(__file__).parents[1]
_IN_PAGES = re.compile(r"""\btr\(\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")


def messages() -> dict[str, list[str]]:
    """The files that each marked message is in, in the order of the files. ValueError for a mark around anything but a literal."""
    found: dict[str, list[str]] = {}
    for path in sorted([*_PACKAGE.rglob("*.py"), *_PACKAGE.rglob("*.jinja")]):
        name = path.relative_to(_PACKAGE).as_posix()
        text = path.read_text(encoding="utf-8")
        said = _of_python(text, name) if path.suffix == ".py" else [*map(ast.literal_eval, _IN_PAGES.findall(text))]
        for message in [*said, *(_of_help(text) if path.parent.name == "cli" else [])]:
            files = found.setdefault(message, [])
            files += [] if name in files else [name]
    return found


def places(message: str) -> list[str]:
    """The places of a message that values are put into, with their forms, in alphabetical order.

    >>> places("{loss:.3f} after {steps}")
    ['loss:.3f', 'steps']
    """
    parts = [(name, form, how) for _, name, form, how in Formatter().parse(message) if name is not None]
    return sorted(f"{name}{'!' + how if how else ''}{':' + form if form else ''}" for name, form, how in parts)


def update(catalogue: Path = CATALOGUE) -> list[str]:
    """Add to the catalogue what the code marks and drop what it does not any more; the messages without a translation."""
    known = {entry.message: entry for entry in read_po(catalogue)} if catalogue.exists() else {}
    old = {message: known.get(message, Entry(message)) for message in messages()}
    entries = [Entry(message, old[message].translation, files, old[message].fuzzy) for message, files in messages().items()]
    write_po(catalogue, entries)
    return [entry.message for entry in entries if not entry.translation]


def _of_help(text: str) -> list[str]:
    """What `--help` says: each `help=`, and what the functions of commands say of themselves."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.keyword) and node.arg == "help" and isinstance(node.value, ast.Constant):
            found.append((node.value.lineno, str(node.value.value)))
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and _is_command(node):
            found.append((node.lineno, ast.get_docstring(node) or ""))
    return [message for _, message in sorted(found) if message]


def _is_command(node: ast.FunctionDef) -> bool:
    return any(isinstance(one, ast.Name) and one.id in ("Annotated", "Json") for arg in node.args.args for one in ast.walk(arg))


def _of_python(text: str, name: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("tr", "marked"):
            first = node.args[0] if node.args else None
            if not (isinstance(first, ast.Constant) and isinstance(first.value, str)):
                raise ValueError(f"{name}, line {node.lineno}: {node.func.id}() takes the message as a literal")
            found.append((node.lineno, node.col_offset, first.value))
    return [message for _, _, message in sorted(found)]


if __name__ == "__main__":
    missing = update()
    for one in missing:
        print(one)  # noqa: T201
    sys.exit(f"{len(missing)} messages have no translation in {CATALOGUE}" if missing else 0)
