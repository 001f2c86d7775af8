"""Caption files: which one belongs to an image, what is in it, and what is odd about it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection

from fashion_ml.data.notices import Kind
from fashion_ml.runtime.printable import composed

_TEXTS = frozenset({".txt", ".caption", ".captions", ".cap", ".text", ".tag", ".tags", ".prompt", ".json", ".md", ".csv"})
"""Endings of files in which people keep captions."""
MOST_BYTES = 40_000
"""Of a caption file; what text encoders read is some 1,500 characters at most."""
_BOM = b"\xef\xbb\xbf"
_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_ODD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff\ufffd]")
_SYNTAX = re.compile(
    r"\([^()]*:\s*\d*\.?\d+\s*\)|<(?:lora|lyco|hypernet):[^<>]*>|\[[^\[\]]*:[^\[\]]*\]|\{[^{}]*\|[^{}]*\}|__\w+__"
)


class CaptionFiles:
    """The files beside the images of one folder, for finding captions by the images' names."""

    def __init__(self, names: Collection[str], extension: str):
        """`names` are all the folder's files that are no images."""
        self._extension, self._names = extension, names
        self._composed = {composed(name): name for name in names if not name.isascii()}
        self._near: dict[str, list[str]] | None = None
        self.used: set[str] = set()
        """Names of the files that were found to be captions."""

    def of(self, image: str) -> str | None:
        """The name of an image's caption file: its stem with the extension, whichever way accents are spelt; None without one."""
        wanted = _stem(image) + self._extension
        if wanted not in self._names:
            wanted = self._composed.get(composed(wanted), "")
        if not wanted:
            return None
        self.used.add(wanted)
        return wanted

    def near(self, image: str) -> list[str]:
        """Files that may have been meant as the caption of an image without one: `a.jpg.txt`, `a.caption`, `a.TXT`, `a .txt`."""
        if self._near is None:
            near = defaultdict(list)
            for name in sorted(self._names):
                if is_text(name):
                    near[_key(_stem(name))].append(name)
            self._near = near
        whole, stem = _key(image), _key(_stem(image))
        return [*self._near.get(whole, ()), *(self._near.get(stem, ()) if stem != whole else ())]

    def without_image(self) -> list[str]:
        """Files with the captions' extension that no image was found for."""
        return sorted(name for name in self._names if name.endswith(self._extension) and name not in self.used)


def read_caption(content: bytes) -> tuple[str, list[Kind]]:
    """The text of a caption file without a byte order mark and surrounding space, and what is odd about it.

    All its lines are the caption, and an empty file is an empty caption. UnicodeDecodeError when it is not UTF-8.
    """
    text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").strip()
    odd = {
        Kind.EMPTY: not text,
        Kind.LINES: "\n" in text,
        Kind.BOM: content.startswith(_BOM),
        Kind.ODD: _ODD.search(text) is not None,
        Kind.SYNTAX: _SYNTAX.search(text) is not None,
    }
    return text, [kind for kind, found in odd.items() if found]


def is_text(name: str) -> bool:
    """Whether a file has one of the endings that people give to captions and notes about pictures."""
    return _ending(name) in _TEXTS


def encoding_of(content: bytes) -> str:
    """What a file that is not UTF-8 says that it is: `UTF-16`, or nothing."""
    return _ENCODINGS.get(content[:2], "")


def _stem(name: str) -> str:
    return name[: name.rfind(".")] if name.rfind(".") > 0 else name


def _ending(name: str) -> str:
    return name[len(_stem(name)) :].lower()


def _key(name: str) -> str:
    return composed(name).strip().casefold()
