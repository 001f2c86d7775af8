from __future__ import annotations

import os

import pytest

from fashion_ml.runtime.printable import composed, is_printable, printable


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"look_01.png", "look_01.png"),
        ("洋裝.png".encode(), "洋裝.png"),
        ("洋裝.png".encode("cp950"), "~ACv~B8~CB.png"),  # AC 76 B8 CB, and 76 is v
        ("robe\xe9.png".encode("latin-1"), "robe~E9.png"),
        (b"100%~.png", "100%~.png"),
    ],
)
def test_only_bytes_that_are_not_utf8_are_written_as_numbers(raw: bytes, shown: str):
    name = os.fsdecode(raw)
    assert printable(name) == shown
    assert is_printable(name) == (name == shown)
    printable(name).encode()


def test_an_accent_is_one_character_whichever_way_it_was_spelt():
    assert composed("e\u0301.png") == composed("\xe9.png") == "\xe9.png"
