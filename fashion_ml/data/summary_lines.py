"""A summary of the data in at most a screen: what there is, then a line for each kind of thing that was noticed."""

from __future__ import annotations

from collections.abc import Iterable

from fashion_ml.data.buckets import Size
from fashion_ml.data.folder_listing import count_of
from fashion_ml.data.notices import some_of
from fashion_ml.data.summary import FolderSummary
from fashion_ml.runtime.language import tr
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
            lines.append(
                (
                    tr(
                        "{indent}masks (data.masks {kind}): {count:,} of {count_of} have one",
                        indent=_INDENT,
                        kind=kind,
                        count=count,
                        count_of=count_of(one.images),
                    ),
                    count == 0,
                )
            )
        lines += [(f"{_INDENT}{line}", important) for line, important in one.lines()]
    return lines


def _head(one: FolderSummary) -> str:
    epoch = tr(" ({an_epoch:,} an epoch)", an_epoch=one.an_epoch) if one.an_epoch != one.images else ""
    named = [folder for folder in one.folders if folder.name]
    folders = _in_folders(len(named)) if named else ""
    captions = tr(", {captions:,} with a caption file", captions=one.captions) if one.captions else ""
    return tr(
        "Data, {role}: {folder}: {count_of}{epoch}{folders}{captions}",
        role=_role(one.role),
        folder=printable(str(one.folder)),
        count_of=count_of(one.images),
        epoch=epoch,
        folders=folders,
        captions=captions,
    )


def _role(role: str) -> str:
    """What a folder is for, in the language; the name of a subset stays."""
    words = {"training": tr("training"), "references": tr("references"), "prior": tr("prior"), "domains": tr("domains")}
    first, blank, rest = role.partition(" ")
    return f"{words.get(first, first)}{blank}{rest}"


def _in_folders(count: int) -> str:
    return tr(" in {count} folders", count=count) if count > 1 else tr(" in {count} folder", count=count)


def _folders(one: FolderSummary) -> list[str]:
    named = sorted((folder for folder in one.folders if folder.name), key=lambda folder: -folder.images)
    shown = sorted(named[:_FOLDERS], key=lambda folder: folder.name)
    lines = [
        f"{folder.name}: {count_of(folder.images)} x {folder.repeats}"
        + (tr(", class {token!r}", token=folder.token) if folder.token else "")
        for folder in shown
    ]
    rest = named[_FOLDERS:]
    return [
        *lines,
        *(
            [tr("and {count} more folders: {count_2:,} images", count=len(rest), count_2=sum(folder.images for folder in rest))]
            if rest
            else []
        ),
    ]


def _sizes(one: FolderSummary) -> list[str]:
    if one.sizes is None:
        return []
    small, middle, large = (_size(size) for size in one.sizes)
    text = (
        tr("sizes {small}", small=small)
        if small == large
        else tr("sizes {small} to {large}, median {middle}", small=small, large=large, middle=middle)
    )
    if one.buckets:
        buckets = [f"{_size(bucket.size)} ({count_of(bucket.images)})" for bucket in one.buckets]
        cropped = sum(bucket.cropped * bucket.images for bucket in one.buckets) / max(one.images, 1)
        text += tr(
            "; used at {some_of}, {cropped:.0f} % cropped away on average",
            some_of=some_of(buckets, _BUCKETS),
            cropped=cropped * 100,
        )
    return [text]


def _size(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
