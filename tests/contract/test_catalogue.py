"""The catalogue in Traditional Chinese has all that the code says, translated, with the same places for values."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

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
