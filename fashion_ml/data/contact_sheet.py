"""Thumbnails of a data set with the beginnings of their captions, folder by folder, on one picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont, ImageOps

from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.pictures import load_picture
from fashion_ml.runtime.atomic_files import atomic_path

if TYPE_CHECKING:
    Font = ImageFont.FreeTypeFont

_MOST, _COLUMNS, _SIDE, _TEXT, _GAP, _LINES = 100, 10, 128, 12, 8, 3
_CJK = (
    "NotoSansCJK",
    "NotoSansTC",
    "SourceHanSans",
    "wqy-",
    "DroidSansFallback",
    "uming",
    "ukai",
    "msjh",
    "PingFang",
    "Arial Unicode",
)
_LATIN_ENDS = "\u2e80"
"""From here on characters are Chinese, Japanese and others that the font of matplotlib lacks."""


def write_contact_sheet(path: Path, items: Sequence[CaptionedImage], title: str) -> Path:
    """Draw at most 100 of the images, evenly over all of them, under the names of their folders; PNG. Files that are gone are left white."""
    sheet = draw_contact_sheet(items, title)
    with atomic_path(path, field="--contact-sheet") as temporary:
        sheet.save(temporary, "PNG")
    return path


def draw_contact_sheet(items: Sequence[CaptionedImage], title: str) -> Image.Image:
    """The picture of `write_contact_sheet`."""
    shown = spread(items)
    groups = [(name, list(some)) for name, some in groupby(shown, key=lambda item: item.name.rpartition("/")[0])]
    cell = _SIDE + _GAP, _SIDE + _LINES * (_TEXT + 2) + _GAP
    head = 2 * _TEXT + _GAP
    rows = [(name, some, -(-len(some) // _COLUMNS)) for name, some in groups]
    height = head + sum((head if name else 0) + count * cell[1] for name, _, count in rows) + _GAP
    sheet = Image.new("RGB", (_COLUMNS * cell[0] + _GAP, height), "white")
    draw = ImageDraw.Draw(sheet)
    more = f", {len(shown)} of {len(items)} images" if len(shown) < len(items) else f", {len(items)} images"
    draw.text((_GAP, _GAP), title + more, "black", _font(title, _TEXT + 2))
    top = head
    for name, some, count in rows:
        if name:
            draw.text((_GAP, top + _GAP), name, (90, 90, 90), _font(name, _TEXT + 2))
            top += head
        for index, item in enumerate(some):
            place = _GAP + index % _COLUMNS * cell[0], top + index // _COLUMNS * cell[1]
            _paste(sheet, draw, item, place)
        top += count * cell[1]
    return sheet


def spread(items: Sequence[CaptionedImage], most: int = _MOST) -> list[CaptionedImage]:
    """At most so many of the items, evenly over all of them, so that every folder has its part."""
    count = min(most, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, item: CaptionedImage, place: tuple[int, int]) -> None:
    try:
        small = ImageOps.contain(load_picture(item.path), (_SIDE, _SIDE))
    except (OSError, ValueError):
        small = Image.new("RGB", (_SIDE, _SIDE), "white")
    sheet.paste(small, (place[0] + (_SIDE - small.width) // 2, place[1] + (_SIDE - small.height) // 2))
    caption = " ".join(item.caption.split()) or "(no caption)"
    for number, line in enumerate(_wrapped(caption, _font(caption, _TEXT))):
        draw.text((place[0], place[1] + _SIDE + 2 + number * (_TEXT + 2)), line, "black", _font(caption, _TEXT))


def _wrapped(text: str, font: Font) -> list[str]:
    """The beginning of a text in at most three lines as wide as a thumbnail."""
    lines: list[str] = []
    rest = text
    while rest and len(lines) < _LINES:
        end = len(rest)
        while end > 1 and font.getlength(rest[:end]) > _SIDE:
            end = min(end - 1, int(end * _SIDE / font.getlength(rest[:end])) + 1)
        space = rest.rfind(" ", 0, end + 1)
        end = space if end < len(rest) and space > 0 else end
        lines.append(rest[:end].strip())
        rest = rest[end:].strip()
    if rest:
        lines[-1] = f"{lines[-1][:-1]}…"
    return lines


def _font(text: str, size: int) -> Font:
    return _loaded(max(text, default="") >= _LATIN_ENDS, size)


@lru_cache
def _loaded(wide: bool, size: int) -> Font:
    """The font of matplotlib; for Chinese and the like one of this machine, where there is one."""
    from matplotlib import font_manager

    if wide:
        known = [path for path in font_manager.findSystemFonts() if any(name in path for name in _CJK)]
        if known:
            return ImageFont.truetype(sorted(known)[0], size)
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)
