import unicodedata

import pytest
from PIL import Image, ImageChops, ImageDraw, ImageFont

from fashion_ml.runtime import label_font
from fashion_ml.runtime.label_font import CHINESE, LabelFont, runs

TEXTS = {
    "Chinese": "紅色洋裝，有腰帶的款式",
    "simplified Chinese": "红色连衣裙",
    "Japanese": "赤いドレス",
    "Arabic": "فستان أحمر",
    "Russian": "красное платье",
    "French": "robe d'été à fleurs",
    "emoji": "👗️ red 😀 👩‍🎤",
    "Thai and Hindi": "ชุดแดง लाल",
    "rare": "龘 \U0002a6a5",
    "bytes that are no UTF-8": "\udc8d\udcff",
}


def _boxes(font: ImageFont.FreeTypeFont) -> list[bytes]:
    """What a font draws for characters that no font has."""
    return [bytes(font.getmask(character)) for character in ("\U000f0000", "\ufdd0") if bytes(font.getmask(character))]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_no_character_of_a_label_is_drawn_as_a_box(text):
    assert runs(text)
    for file, run in runs(text):
        font = label_font._loaded(file, 14)
        boxes = _boxes(font)
        for character in run:
            assert bytes(font.getmask(character)) not in boxes or character.isspace(), (character, file)


def test_chinese_is_drawn_on_a_machine_without_a_chinese_font(monkeypatch):
    monkeypatch.setattr(label_font, "_of_machine", lambda: ())
    label_font.font_of.cache_clear()
    assert runs("紅色洋裝") == [(str(CHINESE), "紅色洋裝")]
    label_font.font_of.cache_clear()


def test_what_no_font_has_is_told_by_its_name_or_its_number(monkeypatch):
    monkeypatch.setattr(label_font, "_of_machine", lambda: ())
    label_font.font_of.cache_clear()
    assert "".join(run for _, run in runs("👗 ชุด")) == "[dress] \\u0e0a\\u0e38\\u0e14"
    label_font.font_of.cache_clear()


def test_a_label_is_one_line_and_marks_that_only_steer_others_are_left_out():
    assert "".join(run for _, run in runs("a\tred\n dress\u200e️")) == "a red dress"
    assert runs("e\u0301") == runs("é")


def test_a_shortened_label_is_as_narrow_as_asked_for_in_every_script():
    font = LabelFont(14)
    for text in TEXTS.values():
        assert font.getlength(font.shortened(text * 9, 80)) <= 80


def test_a_plain_label_is_drawn_as_pillow_draws_it():
    ours, theirs = (Image.new("RGB", (200, 40), "white") for _ in range(2))
    LabelFont(14).draw(ImageDraw.Draw(ours), (8, 20), "a red plain dress", "black", "lm")
    ImageDraw.Draw(theirs).text((8, 20), "a red plain dress", "black", ImageFont.load_default(14), anchor="lm")
    assert ImageChops.difference(ours, theirs).getbbox() is None


def test_every_character_of_the_shipped_font_is_written_left_to_right():
    assert {unicodedata.bidirectional(chr(code)) for code in label_font._characters(str(CHINESE))} <= {
        "L",
        "ON",
        "ES",
        "CS",
        "ET",
        "EN",
        "WS",
        "NSM",
    }


def test_a_regular_font_of_the_machine_comes_before_its_bold_one(monkeypatch: pytest.MonkeyPatch):
    names = ("NotoSansCJK-Black.ttc", "NotoSansCJK-Bold.ttc", "NotoSansCJK-DemiLight.ttc", "NotoSansCJK-Regular.ttc")
    monkeypatch.setattr(label_font, "_of_machine", lambda: tuple(f"/fonts/{name}" for name in names))
    found = [path for path in label_font._fonts() if "NotoSansCJK" in path]
    assert found[0] == "/fonts/NotoSansCJK-Regular.ttc"
    assert set(found) == {f"/fonts/{name}" for name in names}
