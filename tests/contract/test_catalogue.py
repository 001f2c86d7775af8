"""The catalogue in Traditional Chinese has all that the code says, translated, with the same places for values."""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

import fashion_ml
from fashion_ml.runtime.catalogue import messages, places, update
from fashion_ml.runtime.language import CATALOGUE, VARIABLE, tr
from fashion_ml.runtime.po_file import Entry, read_po, write_po

ENTRIES = read_po(CATALOGUE)
MEND = "bring it up to date: python -m fashion_ml.runtime.catalogue, then fill in each empty msgstr"
_LABEL = re.compile(r"(?:\S+(?: \S+)*) +(?=\S)")


def columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def test_every_marked_message_is_in_the_catalogue_and_nothing_else():
    assert {entry.message: entry.files for entry in ENTRIES} == messages(), MEND


def test_every_message_is_translated_and_sure():
    assert [entry.message for entry in ENTRIES if not entry.translation or entry.fuzzy] == [], MEND


def test_a_translation_has_the_same_places_for_values():
    assert [one.message for one in ENTRIES if "{" in one.message and places(one.message) != places(one.translation)] == []


def test_a_label_of_ten_columns_has_ten_in_the_translation():
    """What stands under another on a terminal does so in both languages."""
    differing = []
    for entry in ENTRIES:
        label = _LABEL.match(entry.message)
        if label and label.end() == 10 and "  " in label[0]:
            other = _LABEL.match(entry.translation)
            differing += [entry.message] if other is None or columns(other[0]) != 10 else []
    assert differing == []


def test_a_translation_begins_and_ends_with_a_blank_where_the_message_goes_on_with_chinese_or_not_at_all():
    """A blank between two Chinese clauses would be a gap."""
    assert [one.message for one in ENTRIES if re.search(r"[，。；：] |[\u4e00-\u9fff] [，。；：]", one.translation)] == []


@pytest.mark.parametrize("text", ["{a:.3f} of {b!r}", 'with "quotes", a \\ and\ttwo\nlines', "長春藤"])
def test_what_is_written_is_read(tmp_path: Path, text: str):
    write_po(tmp_path / "one.po", [Entry(text, text[::-1], ["a.py", "b.py"]), Entry("guess", "x", [], fuzzy=True)])
    assert read_po(tmp_path / "one.po") == [Entry(text, text[::-1], ["a.py", "b.py"]), Entry("guess", "x", [], fuzzy=True)]


def test_bringing_it_up_to_date_keeps_translations_and_drops_what_is_gone(tmp_path: Path):
    message = ENTRIES[0].message
    write_po(tmp_path / "one.po", [Entry(message, "甲"), Entry("said no more", "乙")])
    assert message not in update(tmp_path / "one.po")
    kept = {entry.message: entry.translation for entry in read_po(tmp_path / "one.po")}
    assert kept[message] == "甲"
    assert "said no more" not in kept


def test_a_line_that_belongs_to_nothing_is_named(tmp_path: Path):
    (tmp_path / "one.po").write_text('msgid "a"\nmsgtsr "b"\n')
    with pytest.raises(ValueError, match="line 2"):
        read_po(tmp_path / "one.po")


def test_a_message_is_said_in_the_language(monkeypatch: pytest.MonkeyPatch):
    assert tr("{count} captions", count=3) == "3 captions"  # not marked here: tests are no part of the package
    monkeypatch.setenv(VARIABLE, "zh-TW")
    assert tr("better") == "較好"
    assert tr("said nowhere") == "said nowhere"


_SAYING = {
    "say",
    "tell",
    "warn",
    "echo",
    "bar",
    "table",
    "InputError",
    "TrialError",
    "PictureError",
    "Finding",
    "set_title",
    "set_xlabel",
    "set_ylabel",
}
_ENGLISH = re.compile(r"[A-Za-z]{2,}[,:;]? [a-z]{2,}")
_HEADS = {"image", "caption", "name", "status", "verdict", "gain", "metric", "recipe", "seeds", "final", "time"}
_ANSWERS = {"asked.py", "guarded_app.py"}
"""Of a server to programs, which are of one language."""


def _package() -> list[Path]:
    """The package's files, of which there are many."""
    found = sorted(Path(fashion_ml.__file__).parent.rglob("*.py"))
    assert len(found) > 200
    return found


def test_what_a_person_is_told_is_marked():
    """Whatever is said on a terminal, as an error or by the doctor."""
    found = []
    for path in _package():
        if "making" in path.parts or path.name in _ANSWERS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _called(node) in _SAYING:
                said = (text for part in [*node.args, *(word.value for word in node.keywords)] for text in _literals(part))
                head = _called(node) == "table"  # a single word is English there
                found += [
                    f"{path.name}, line {node.lineno}: {text}"
                    for text in said
                    if _ENGLISH.search(text) or (head and text in _HEADS)
                ]
    assert [line for line in found if "fashion-ml " not in line and "pip install" not in line] == []  # commands stay


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _literals(node: ast.AST) -> Iterator[str]:
    """The texts of an expression that are in no `tr("…")`, with 0 in the places of values."""
    if isinstance(node, ast.Call) and _called(node) in ("tr", "marked", "translated"):
        return
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    if not isinstance(node, ast.Compare | ast.Subscript):
        for part in ast.iter_child_nodes(node):
            yield from _literals(part)


def test_no_word_of_english_is_put_into_a_translated_message():
    """Such as the s of a plural: a message for one and a message for several say it in each language."""
    found = []
    for path in _package():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _called(node) == "tr":
                for word in node.keywords:
                    choices = [word.value.body, word.value.orelse] if isinstance(word.value, ast.IfExp) else []
                    texts = [one.value for one in choices if isinstance(one, ast.Constant) and isinstance(one.value, str)]
                    found += [f"{path.name}, line {node.lineno}: {text}" for text in texts if re.fullmatch(r"[a-z ]+", text)]
    assert [line for line in found if line.rsplit(": ", 1)[1] not in _SETTINGS] == []


_SETTINGS = {"betas", "optimizer_args", "optimizer_type", "config"}
