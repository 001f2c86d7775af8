"""Text on pictures in any script: each character by a font that has it, and where none has, its name or number; never a box."""

from __future__ import annotations

import gzip
import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import ImageDraw, ImageFont

from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.printable import printable

CHINESE = Path(__file__).parent / "fonts" / "droid_sans_fallback.ttf.gz"
"""Traditional and simplified Chinese, kana and their punctuation, packed; for machines without a font of these."""
_WEIGHTS = ("bold", "black", "heavy", "light", "thin", "medium", "italic", "oblique")
_CJK_NAMES = (
    *("NotoSansCJK", "NotoSansTC", "SourceHanSans", "wqy-", "DroidSansFallback", "uming", "ukai", "msjh", "PingFang"),
    "Arial Unicode",
)
_BOXES = ("LastResort", "AdobeBlank", "Unifont")
"""Fonts that draw a box, nothing or a number for a character."""
_BUILT_IN = ""
"""Stands for Pillow's own font in place of a file."""
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)


class LabelFont:
    """A size of text, in pixels."""

    def __init__(self, size: int):
        self.size = size

    def getlength(self, text: str) -> float:
        """Width of a line in pixels."""
        return sum(_loaded(file, self.size).getlength(run) for file, run in runs(text))

    def draw(
        self,
        canvas: ImageDraw.ImageDraw,
        place: tuple[float, float],
        text: str,
        colour: str | tuple[int, int, int],
        anchor: Literal["la", "lm", "mm"] = "la",
    ) -> None:
        """Draw a line; `place` is its left top (`la`), left middle (`lm`) or middle (`mm`)."""
        x, y = place
        if anchor == "mm":
            x -= self.getlength(text) / 2
        upright: Literal["ls"] = "ls"  # runs of several fonts share a baseline
        ascent, descent = _loaded(_BUILT_IN, self.size).getmetrics()
        y += ascent if anchor == "la" else (ascent - descent) / 2
        for file, run in runs(text):
            font = _loaded(file, self.size)
            canvas.text((x, y), run, colour, font, anchor=upright)
            x += font.getlength(run)

    def shortened(self, text: str, width: float) -> str:
        """The beginning of a text that is at most so wide, with an ellipsis where something is left out."""
        if self.getlength(text) <= width:
            return text
        while text and self.getlength(f"{text}…") > width:
            text = text[:-1]
        return f"{text}…"

    def lines(self, text: str, width: float) -> list[str]:
        """The whole of a text in lines at most so wide, broken at blanks, in Chinese anywhere."""
        found, line = [], ""
        for word in re.findall(r"[\u2e80-\uffef]|[^\s\u2e80-\uffef]+\s*|\s+", text):
            if line and self.getlength((line + word).rstrip()) > width:
                found.append(line.rstrip())
                line = ""
            line += word
        return [*found, line.rstrip()]


def runs(text: str) -> list[tuple[str, str]]:
    r"""A text as it is drawn, in stretches of one font: the font's file, empty for Pillow's own, and what of the text it draws.

    A character that no font of this machine has is written as its name where it is a symbol (`[dress]`), else as its number (`\u7d05`).
    """
    if text.isascii() and text.isprintable():  # Pillow's own font has all of it: no other is asked, nor imported
        return [(_BUILT_IN, line)] if (line := " ".join(text.split())) else []
    found: list[tuple[str, str]] = []
    for character in _drawable(printable(text)):
        file = found[-1][0] if found else _BUILT_IN
        if character.isalnum() or not _has(file, character):
            file = font_of(character) or ""
        said = character if _has(file, character) else _said(character)
        if not found or found[-1][0] != file:
            found.append((file, ""))
        found[-1] = (file, found[-1][1] + said)
    return found


@cache
def font_of(character: str) -> str | None:
    """The first font that has a character: Pillow's own (empty), matplotlib's, a Chinese one of this machine, the one that comes with this
    package, any other of this machine; None where none has."""
    return next((file for file in _fonts() if _has(file, character)), None)


def font_file(file: str) -> str:
    """The path of a font that `runs` names, for programs that read files alone: the packed one is unpacked once, in matplotlib's cache."""
    if file != str(CHINESE):
        return file
    import matplotlib as mpl

    path = Path(mpl.get_cachedir()) / "fashion_ml_chinese.ttf"
    if not path.is_file():
        with atomic_path(path) as temporary:
            temporary.write_bytes(gzip.decompress(CHINESE.read_bytes()))
    return str(path)


def _drawable(text: str) -> Iterator[str]:
    """One line of it: white space is a space, and what only steers others (selectors of emoji, joiners) is left out."""
    for character in " ".join(unicodedata.normalize("NFC", text).split()):
        if unicodedata.category(character) != "Cf" and ord(character) not in _VARIATION_SELECTORS:
            yield character


def _said(character: str) -> str:
    if unicodedata.category(character) in ("So", "Sk") and (name := unicodedata.name(character, "")):
        return f"[{name.lower()}]"
    return character.encode("unicode_escape").decode()


def _fonts() -> Iterator[str]:
    """In the order in which they are asked; the machine's own are looked for only where the first two are not enough."""
    from matplotlib import font_manager

    yield _BUILT_IN
    yield font_manager.findfont("DejaVu Sans")
    of_machine = sorted((path for path in _of_machine() if not any(name in path for name in _BOXES)), key=_by_weight)
    yield from (path for path in of_machine if any(name in path for name in _CJK_NAMES))
    yield str(CHINESE)
    yield from of_machine


def _by_weight(path: str) -> tuple[bool, str]:
    """Regular files of a family come before its bold and light ones, whose names would be first."""
    return any(weight in Path(path).name.lower() for weight in _WEIGHTS), path


@cache
def _of_machine() -> tuple[str, ...]:
    from matplotlib import font_manager

    return tuple(font_manager.findSystemFonts())


def _has(file: str, character: str) -> bool:
    return ord(character) in _characters(file)


@cache
def _characters(file: str) -> frozenset[int]:
    """The code points that a font draws; none where it holds pictures of one size (emoji in colour) or cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(BytesIO(_built_in_bytes()) if file == _BUILT_IN else _readable(file))
        return frozenset(code for code, glyph in font.get_charmap().items() if glyph) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()


def _readable(file: str) -> str | BytesIO:
    """A font's file as FreeType reads it: the packed one unpacked."""
    return BytesIO(gzip.decompress(CHINESE.read_bytes())) if file == str(CHINESE) else file


def _built_in_bytes() -> bytes:
    kept = _loaded(_BUILT_IN, 14).path
    assert isinstance(kept, BytesIO)
    return kept.getvalue()


@lru_cache(maxsize=64)
def _loaded(file: str, size: int) -> ImageFont.FreeTypeFont:
    if file != _BUILT_IN:
        return ImageFont.truetype(_readable(file), size)
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow's wheels all come with FreeType
    return font
