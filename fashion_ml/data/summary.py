"""What a folder of images holds and what training makes of it, as plain facts: printed, logged, and tested without either."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fashion_ml.data.buckets import Size
from fashion_ml.data.images import CaptionedImage, ClassFolder, Reading
from fashion_ml.data.notices import Kind, Notice, by_kind, line_of, words_of
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.printable import printable

CountTokens = Callable[[str], int]
"""The tokens of a caption, without those of its beginning and end."""
_CROPPED, _UPSCALED, _TINY, _EXTREME = 0.25, 2.0, 4.0, 3.0
"""What is worth a word: the share of an image that is cropped away, how much it is scaled up, and long side / short side."""
_NAMES = 1000
"""Files of one kind that summary.json names; it counts all of them."""
_SHOWN = 60


@dataclass(frozen=True)
class Bucket:
    """Images that are trained at one size."""

    size: Size
    images: int
    cropped: float
    """Mean share of their area that is cropped away."""


@dataclass(frozen=True)
class FolderSummary:
    """What was read of one folder, and what is worth knowing about it."""

    role: str
    """What it is for: training, prior, references, domains."""
    folder: Path
    folders: tuple[ClassFolder, ...]
    images: int
    an_epoch: int
    """Images with their repeats."""
    captions: int
    """Images whose caption is from a file."""
    sizes: tuple[Size, Size, Size] | None
    """Smallest, middle and largest by area; None without images."""
    buckets: tuple[Bucket, ...]
    """The sizes of training, the most frequent one first; empty where images are not trained or encoded."""
    notices: Mapping[Kind, tuple[Notice, ...]] = field(default_factory=dict)
    masks: tuple[str, int] | None = None
    """Where masks are from, `alpha`, `folder` or `garment`, and how many images have one; None where none are asked for."""

    def plus(self, notices: Iterable[Notice]) -> FolderSummary:
        """With more that was noticed."""
        all_ = [*(one for some in self.notices.values() for one in some), *notices]
        return replace(self, notices={kind: tuple(some) for kind, some in by_kind(all_).items()})

    def with_masks(self, kind: str, without: Sequence[str]) -> FolderSummary:
        """With how many images have a mask; those named `without` have none."""
        found = self.plus(Notice(Kind.MASKLESS, name) for name in without)
        return replace(found, masks=(kind, self.images - len(without)))

    def lines(self) -> list[tuple[str, bool]]:
        """A line for each kind that was noticed, and whether something is not as it was meant."""
        return [(line_of(kind, some, self.role), kind.important) for kind, some in self.notices.items()]

    def to_dict(self) -> dict[str, Any]:
        """For `summary.json`."""
        return {
            "folder": printable(str(self.folder)),
            "images": self.images,
            "images_an_epoch": self.an_epoch,
            "captions_from_files": self.captions,
            "folders": [
                {"name": one.name, "class": one.token, "repeats": one.repeats, "images": one.images} for one in self.folders
            ],
            "sizes": dict(zip(("smallest", "median", "largest"), map(list, self.sizes), strict=True)) if self.sizes else None,
            "buckets": [
                {"size": list(one.size), "images": one.images, "cropped_share": round(one.cropped, 4)} for one in self.buckets
            ],
            **({"masks": {"from": self.masks[0], "images": self.masks[1]}} if self.masks else {}),
            "noticed": {
                kind.key: {
                    "count": sum(one.count for one in some),
                    **dict(zip(("what", "change"), words_of(kind, self.role), strict=True)),
                    "files": [{"name": one.name, "detail": one.detail} for one in some[:_NAMES]],
                }
                for kind, some in self.notices.items()
            },
        }


def summarise(reading: Reading, sizes: Sequence[Size] = (), groups: Iterable[Sequence[CaptionedImage]] = ()) -> FolderSummary:
    """The facts of what was read. `sizes` are those that its images are trained at, `groups` images that look alike, others among them."""
    items = reading.items
    missing = {one.name for one in reading.notices if one.kind is Kind.MISSING}
    of_files = [item for item in items if item.name not in missing]
    by_area = sorted((item.size for item in items), key=lambda size: (size[0] * size[1], size))
    summary = FolderSummary(
        reading.role,
        reading.folder,
        tuple(reading.folders),
        len(items),
        sum(item.repeats for item in items),
        len(of_files) if any(item.caption for item in items) else 0,
        (by_area[0], by_area[len(by_area) // 2], by_area[-1]) if by_area else None,
        _buckets(items, sizes),
    )
    return summary.plus([*reading.notices, *_identical(of_files), *_shapes(items, sizes), *_alike(items, groups)])


def too_long(items: Iterable[CaptionedImage], count: CountTokens, limit: int) -> list[Notice]:
    """The captions that have more tokens than the `limit`, and how many of each are cut."""
    known: dict[str, int] = {}
    found = []
    for item in items:
        caption = item.caption
        if len(caption.encode()) <= limit:  # a token is a byte at least
            continue
        if caption not in known:
            known[caption] = count(caption)
        if known[caption] > limit:
            found.append(
                Notice(
                    Kind.TOO_LONG,
                    item.name,
                    tr("{known} of {known_2} tokens", known=known[caption] - limit, known_2=known[caption]),
                )
            )
    return found


def leaks(
    training: Sequence[CaptionedImage], references: Sequence[CaptionedImage], groups: Iterable[Sequence[CaptionedImage]]
) -> list[Notice]:
    """References that look like training images; `groups` are images alike."""
    seen, held = {item.path for item in training}, {item.path for item in references}
    found = []
    for group in groups:
        known = [item.name for item in group if item.path in seen]
        found += [
            Notice(Kind.LEAK, item.name, tr("as {known}", known=known[0])) for item in group if item.path in held and known
        ]
    return found


def _buckets(items: Sequence[CaptionedImage], sizes: Sequence[Size]) -> tuple[Bucket, ...]:
    cropped: dict[Size, list[float]] = defaultdict(list)
    for item, size in zip(items, sizes, strict=False):
        cropped[size].append(_cropped(item.size, size))
    buckets = [Bucket(size, len(shares), sum(shares) / len(shares)) for size, shares in cropped.items()]
    return tuple(sorted(buckets, key=lambda bucket: (-bucket.images, bucket.size)))


def _scale(size: Size, wanted: Size) -> float:
    """What an image is scaled by to cover the wanted size."""
    return max(wanted[0] / size[0], wanted[1] / size[1])


def _cropped(size: Size, wanted: Size) -> float:
    """The share of an image's area that lies outside when it covers the wanted size."""
    return 1 - wanted[0] * wanted[1] / (size[0] * size[1] * _scale(size, wanted) ** 2)


def _shapes(items: Sequence[CaptionedImage], sizes: Sequence[Size]) -> Iterable[Notice]:
    for item in items:
        ratio = max(item.size) / min(item.size)
        if ratio > _EXTREME:
            yield Notice(Kind.EXTREME, item.name, f"{item.size[0]} x {item.size[1]}")
    for item, size in zip(items, sizes, strict=False):
        scale, share = _scale(item.size, size), _cropped(item.size, size)
        if scale > _UPSCALED:
            yield Notice(
                Kind.TINY if scale > _TINY else Kind.UPSCALED, item.name, f"{item.size[0]} x {item.size[1]}, {scale:.1f} x"
            )
        if share > _CROPPED:
            yield Notice(Kind.CROPPED, item.name, f"{share * 100:.0f} %")


def _identical(items: Sequence[CaptionedImage]) -> Iterable[Notice]:
    same = defaultdict(list)
    for item in items:
        if item.caption:
            same[item.caption].append(item.name)
    for caption, names in sorted(same.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        if len(names) > 1:
            shown = caption if len(caption) <= _SHOWN else f"{caption[:_SHOWN]}…"
            yield Notice(
                Kind.IDENTICAL, f'"{shown}"', tr("{count} images, first {names}", count=len(names), names=names[0]), len(names)
            )


def _alike(items: Sequence[CaptionedImage], groups: Iterable[Sequence[CaptionedImage]]) -> Iterable[Notice]:
    """Copies of an image, and those that only look alike, each named with the first of its group."""
    own = {item.path for item in items}
    for group in groups:
        first: dict[str, str] = {}
        for item in group:
            if item.path not in own:
                continue
            if item.sha256 in first:
                yield Notice(Kind.COPIES, item.name, tr("as {first}", first=first[item.sha256]))
            elif first:
                yield Notice(Kind.NEAR, item.name, tr("as {next}", next=next(iter(first.values()))))
            first.setdefault(item.sha256, item.name)
