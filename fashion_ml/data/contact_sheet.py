"""Thumbnails of a data set with the beginnings of their captions, folder by folder, on one picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.pictures import load_picture
from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.label_font import LabelFont
from fashion_ml.runtime.language import tr

_MOST, _COLUMNS, _SIDE, _TEXT, _GAP, _LINES = 100, 10, 128, 12, 8, 3


def write_contact_sheet(path: Path, items: Sequence[CaptionedImage], title: str) -> Path:
    """Draw at most 100 of the images, evenly over all of them, under the names of their folders; PNG. Files that are gone are left white."""
    sheet = draw_contact_sheet(items, title)
    with atomic_path(path, field="--contact-sheet") as temporary:
        sheet.save(temporary, "PNG", compress_level=1)  # a fifth larger than by default, in a quarter of the time
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
    more = (
        tr(", {count} of {count_2} images", count=len(shown), count_2=len(items))
        if len(shown) < len(items)
        else tr(", {count} images", count=len(items))
    )
    LabelFont(_TEXT + 2).draw(draw, (_GAP, _GAP), title + more, "black")
    top = head
    for name, some, count in rows:
        if name:
            LabelFont(_TEXT + 2).draw(draw, (_GAP, top + _GAP), name, (90, 90, 90))
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
    caption = " ".join(item.caption.split()) or tr("(no caption)")
    for number, line in enumerate(_wrapped(caption, font := LabelFont(_TEXT))):
        font.draw(draw, (place[0], place[1] + _SIDE + 2 + number * (_TEXT + 2)), line, "black")


def _wrapped(text: str, font: LabelFont) -> list[str]:
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
