"""A summary of the data in at most a screen: what there is, then a line for each kind of thing that was noticed."""

from __future__ import annotations

from collections.abc import Iterable

from fashion_ml.data.buckets import Size
from fashion_ml.data.folder_listing import count_of
from fashion_ml.data.notices import some_of
from fashion_ml.data.summary import FolderSummary
from fashion_ml.runtime.printable import printable

_FOLDERS, _BUCKETS = 6, 4
"""So many folders and sizes are shown, the largest ones; the others are counted."""
_INDENT = "  "


def lines_of(summaries: Iterable[FolderSummary]) -> list[tuple[str, bool]]:
    """Lines of text, and whether each says something that is not as it was meant."""
    lines: list[tuple[str, bool]] = []
    for one in summaries:
        lines.append((_head(one), False))
        lines += [(f"{_INDENT}{line}", False) for line in [*_folders(one), *_sizes(one)]]
        if one.masks is not None:
            kind, count = one.masks
            lines.append((f"{_INDENT}masks (data.masks {kind}): {count:,} of {count_of(one.images)} have one", count == 0))
        lines += [(f"{_INDENT}{line}", important) for line, important in one.lines()]
    return lines


def _head(one: FolderSummary) -> str:
    epoch = f" ({one.an_epoch:,} an epoch)" if one.an_epoch != one.images else ""
    named = [folder for folder in one.folders if folder.name]
    folders = f" in {len(named)} folder{'s' if len(named) > 1 else ''}" if named else ""
    captions = f", {one.captions:,} with a caption file" if one.captions else ""
    return f"Data, {one.role}: {printable(str(one.folder))}: {count_of(one.images)}{epoch}{folders}{captions}"


def _folders(one: FolderSummary) -> list[str]:
    named = sorted((folder for folder in one.folders if folder.name), key=lambda folder: -folder.images)
    shown = sorted(named[:_FOLDERS], key=lambda folder: folder.name)
    lines = [
        f"{folder.name}: {count_of(folder.images)} x {folder.repeats}" + (f", class {folder.token!r}" if folder.token else "")
        for folder in shown
    ]
    rest = named[_FOLDERS:]
    return [*lines, *([f"and {len(rest)} more folders: {sum(folder.images for folder in rest):,} images"] if rest else [])]


def _sizes(one: FolderSummary) -> list[str]:
    if one.sizes is None:
        return []
    small, middle, large = (_size(size) for size in one.sizes)
    text = f"sizes {small}" if small == large else f"sizes {small} to {large}, median {middle}"
    if one.buckets:
        buckets = [f"{_size(bucket.size)} ({count_of(bucket.images)})" for bucket in one.buckets]
        cropped = sum(bucket.cropped * bucket.images for bucket in one.buckets) / max(one.images, 1)
        text += f"; used at {some_of(buckets, _BUCKETS)}, {cropped * 100:.0f} % cropped away on average"
    return [text]


def _size(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
