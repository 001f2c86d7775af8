"""Which caption belongs to which image, and what is odd about it."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from fashion_ml.data.folder_listing import list_folder, read_captions
from fashion_ml.data.images import data_digest
from fashion_ml.data.notices import Kind
from fashion_ml.errors import InputError
from tests.unit.data.folders import CP950, kinds, noticed, picture, scanned


def write(folder: Path, name: str, content: str | bytes) -> None:
    (folder / "1_x").mkdir(exist_ok=True)
    (folder / "1_x" / name).write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize("name", ["a.jpg.txt", "a.caption", "a.TXT", "a .txt", "A.txt", "a.cap"])
def test_a_caption_that_is_beside_but_not_taken_is_named(tmp_path: Path, name: str):
    write(tmp_path, name, "a red dress")
    reading = scanned(tmp_path, ["1_x/a.jpg"])
    assert reading.items[0].caption == "x"
    assert noticed(reading, Kind.MISSING) == [("1_x/a.jpg", f"{name} beside it")]
    assert kinds(reading) == {Kind.MISSING}  # not an orphan too


def test_an_image_whose_caption_is_nowhere_is_named_too(tmp_path: Path):
    write(tmp_path, "other.txt", "a red dress")
    reading = scanned(tmp_path, ["1_x/a.jpg"])
    assert noticed(reading, Kind.MISSING) == [("1_x/a.jpg", "")]
    assert noticed(reading, Kind.ORPHAN) == [("1_x/other.txt", "")]


@pytest.mark.parametrize("content", ["", "   \r\n", b"\xef\xbb\xbf"])
def test_an_empty_caption_is_trained_as_that_and_named(tmp_path: Path, content: str | bytes):
    write(tmp_path, "a.txt", content)
    reading = scanned(tmp_path, ["1_x/a.png"])
    assert reading.items[0].caption == ""
    assert noticed(reading, Kind.EMPTY) == [("1_x/a.txt", "")]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("a red dress\r\nsecond line\r\n", Kind.LINES),
        ("a dress\0with nul", Kind.ODD),
        (b"\xef\xbb\xbf\xef\xbb\xbfa dress", Kind.ODD),
        ("a red dress".encode("utf-16-le"), Kind.ODD),
        ("(red dress:1.3), cotton", Kind.SYNTAX),
        ("a dress <lora:x:1>", Kind.SYNTAX),
        ("a {red|blue} dress", Kind.SYNTAX),
        ("[blue:green:0.5] dress", Kind.SYNTAX),
    ],
)
def test_what_is_odd_about_a_caption_is_named(tmp_path: Path, content: str | bytes, kind: Kind):
    write(tmp_path, "a.txt", content)
    assert noticed(scanned(tmp_path, ["1_x/a.png"]), kind) == [("1_x/a.txt", "")]


@pytest.mark.parametrize("content", ["a dress (cotton), size: 40", "a dress 👗 ， 洋裝、red", "1girl, :d, >_<"])
def test_plain_captions_are_not_odd(tmp_path: Path, content: str):
    write(tmp_path, "a.txt", content)
    reading = scanned(tmp_path, ["1_x/a.png"])
    assert (reading.items[0].caption, kinds(reading)) == (content, set())


def test_a_byte_order_mark_is_left_away_and_named_where_only_some_files_have_one(tmp_path: Path):
    write(tmp_path, "a.txt", b"\xef\xbb\xbfa red dress\r\n")
    reading = scanned(tmp_path, ["1_x/a.png"])
    assert (reading.items[0].caption, kinds(reading)) == ("a red dress", set())
    write(tmp_path, "b.txt", "a blue dress")
    reading = scanned(tmp_path, ["1_x/b.png"])
    assert noticed(reading, Kind.BOM) == [("1_x/a.txt", "")]
    assert [item.caption for item in reading.items] == ["a red dress", "a blue dress"]


def test_a_caption_of_another_encoding_is_an_error_or_left_out_with_its_image(tmp_path: Path):
    write(tmp_path, "a.txt", "a red dress".encode("utf-16"))
    picture(tmp_path / "1_x" / "b.png")
    with pytest.raises(InputError, match=r"a\.txt' is not UTF-8 \(UTF-16\); save it as UTF-8"):
        scanned(tmp_path, ["1_x/a.png"])
    reading = scanned(tmp_path, skip=True)
    assert [item.name for item in reading.items] == ["1_x/b.png"]
    assert [name for name, _ in noticed(reading, Kind.UNREADABLE)] == ["1_x/a.png"]


@pytest.mark.parametrize(("image", "text"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_names_with_accents_pair_whichever_way_they_are_spelt(tmp_path: Path, image: str, text: str):
    write(tmp_path, unicodedata.normalize(text, "é.txt"), "a red dress")
    reading = scanned(tmp_path, [f"1_x/{unicodedata.normalize(image, 'é.png')}"])
    assert [item.caption for item in reading.items] == ["a red dress"]
    assert kinds(reading) == set()


def test_of_two_spellings_the_exact_one_is_taken(tmp_path: Path):
    for form in ("NFC", "NFD"):
        write(tmp_path, unicodedata.normalize(form, "é.txt"), form)
    (item,) = scanned(tmp_path, [f"1_x/{unicodedata.normalize('NFD', 'é.png')}"]).items
    assert item.caption == "NFD"


def test_names_that_are_not_utf8_are_trained_under_a_name_that_everything_takes(tmp_path: Path):
    picture(tmp_path / "1_x" / os.fsdecode(CP950 + b".png"))
    write(tmp_path, os.fsdecode(CP950 + b".txt"), "a dress")
    reading = scanned(tmp_path)
    (item,) = reading.items
    assert (item.name, item.caption) == ("1_x/~ACv~B8~CB.png", "a dress")
    assert kinds(reading) == set()
    assert len(data_digest(reading.items)) == 64
    item.name.encode()


def test_a_class_that_is_not_utf8_is_one_line_where_it_would_be_a_caption(tmp_path: Path):
    folder = f"2_{os.fsdecode(CP950)}"
    path = picture(tmp_path / folder / "a.png")
    with pytest.raises(
        InputError, match=r"is not UTF-8, and its name would be the caption of a\.png; rename the folder"
    ) as caught:
        scanned(tmp_path)
    assert len(caught.value.problems) == 1
    caught.value.problems[0].encode()
    path.with_suffix(".txt").write_text("a dress", encoding="utf-8")
    assert [item.caption for item in scanned(tmp_path).items] == ["a dress"]


def test_a_folder_in_the_place_of_a_caption_is_refused_and_no_image_without_one(tmp_path: Path):
    (tmp_path / "i0.png").write_bytes(b"")
    (tmp_path / "i0.txt").mkdir()
    found = read_captions(tmp_path, list_folder(tmp_path), ".txt", "dress")
    assert found.found == []
    assert [line for line, _ in found.problems] == [
        f"caption '{tmp_path / 'i0.txt'}' cannot be read (Is a directory); make it a text file"
    ]
