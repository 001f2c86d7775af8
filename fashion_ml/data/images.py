"""kohya-style training folders and flat reference folders: images, captions, repeats, and what was left out."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from PIL import Image

from fashion_ml.data.captions import CaptionSettings
from fashion_ml.data.class_folders import CLASS_FOLDER, wrong_name
from fashion_ml.data.folder_faults import check_folder, too_small_image, unreadable_image, without_class_folders, without_images
from fashion_ml.data.folder_listing import Problem, count_of, images_below, list_folder, read_captions
from fashion_ml.data.image_index import Known, KnownImages, looked_at
from fashion_ml.data.notices import REFERENCES, TRAINING, Kind, Notice, by_kind, line_of
from fashion_ml.data.pictures import PictureError, is_image, load_picture
from fashion_ml.errors import InputError
from fashion_ml.runtime.console import bar, warn
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.printable import printable
from fashion_ml.runtime.seeding import derive_seed

_MANY, _AT_ONCE = 1000, 16
"""Images that take so long to check that it is shown, and those that a thread looks at before it hands over."""


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """An image file, its caption, and how often it is seen in one epoch."""

    path: Path
    caption: str
    name: str
    """Path below the folder that was read, with forward slashes, printable; different for every image of it."""
    repeats: int = 1
    size: tuple[int, int] = (0, 0)
    """Width and height after the EXIF turn, pixels."""
    sha256: str = ""
    """Of the file's bytes."""
    hashes: tuple[int, ...] = ()
    """Difference hashes of 64 bits of the picture and of its mirror image, for finding near-duplicates."""
    captions: CaptionSettings | None = None
    """How its caption is seen; as those of all images when None."""
    flip_aug: bool | None = None
    """Whether it may be mirrored; as all images when None."""

    def may_mirror(self, others: bool) -> bool:
        """Whether it may be mirrored where `others` says so for the images without a setting of their own."""
        return others if self.flip_aug is None else self.flip_aug


@dataclass(frozen=True, slots=True)
class ClassFolder:
    """A folder whose images are read."""

    name: str
    token: str
    """The class: what images without a caption are trained on; empty for references."""
    repeats: int
    images: int
    """Images that are used."""


@dataclass(frozen=True)
class Reading:
    """What a folder holds: what is used, and what was noticed."""

    folder: Path
    items: list[CaptionedImage]
    folders: list[ClassFolder] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """A line for each image that was left out because it, or its caption, cannot be read."""
    role: str = TRAINING
    """What it is for: training, prior, references, domains."""

    def say_left_out(self) -> None:
        """Say what is not as it was meant, a line for each kind."""
        for kind, some in by_kind(self.notices).items():
            if kind.important:
                warn(f"{printable(str(self.folder))}: {line_of(kind, some, self.role)}")


def read_training_folder(
    folder: Path,
    caption_extension: str = ".txt",
    *,
    field: str = "data.train_data_dir",
    skipped: list[str] | None = None,
    known: KnownImages | None = None,
) -> list[CaptionedImage]:
    """The images of every `N_class` folder, as `scan_training_folder` finds them; says what was left out.

    With a list `skipped`, unreadable images and captions are left out and described there instead of an InputError.
    """
    reading = scan_training_folder(folder, caption_extension, field=field, skip=skipped is not None, known=known)
    return _items(reading, skipped)


def scan_training_folder(
    folder: Path,
    caption_extension: str = ".txt",
    *,
    field: str = "data.train_data_dir",
    skip: bool = False,
    known: KnownImages | None = None,
) -> Reading:
    """The images of every `N_class` folder, sorted; N is the repeat count, the class the caption where none lies beside.

    InputError, with every problem at once, for a missing or empty folder, no `N_class` folder, and unless `skip` for an unreadable image or
    a caption that is not UTF-8. Files that are `known` are not decoded again.
    """
    check_folder(folder, field)
    reading, problems = Reading(folder, []), list[str]()
    classes = _class_folders(reading, field)
    bad: list[Problem] = []
    found: list[CaptionedImage] = []
    for match, path in classes:
        prefix = f"{printable(path.name)}/"
        if wrong := wrong_name(match):
            problems.append(f"{field}: {str(path)!r} {wrong}")
            continue
        repeats = int(match[1])
        found += _read_folder(path, prefix, caption_extension, match[2], repeats, reading.notices, bad)
        reading.folders.append(ClassFolder(prefix[:-1], printable(match[2]), repeats, 0))
    if not found and not problems and not bad:
        raise without_images(folder, field, _instead(reading), classes=True)
    readable = _check(found, field, bad, reading, known)
    if not skip:
        problems += reading.problems
    elif not readable and not problems:
        problems = [
            tr(
                "{field}: {folder!r} holds no image that can be read; see the files named above",
                field=field,
                folder=str(folder),
            ),
            *reading.problems,
        ]
    _raise_all(problems)
    return _counted(reading, readable)


def read_references(
    folder: Path, caption_extension: str = ".txt", limit: int | None = None, *, skipped: list[str] | None = None
) -> list[CaptionedImage]:
    """The images directly in `folder`, as `scan_references` finds them; says what was left out. `skipped` as for training."""
    reading = scan_references(folder, caption_extension, limit, skip=skipped is not None)
    return _items(reading, skipped)


def _items(reading: Reading, skipped: list[str] | None) -> list[CaptionedImage]:
    """Its images; what was left out is said, and goes into a list `skipped`."""
    if skipped is not None:
        skipped += reading.problems
    reading.say_left_out()
    return reading.items


def scan_references(
    folder: Path,
    caption_extension: str = ".txt",
    limit: int | None = None,
    *,
    field: str = "evaluation.references",
    skip: bool = False,
    known: KnownImages | None = None,
) -> Reading:
    """The images directly in `folder`, sorted by name, each with its caption; of more than `limit` as many, `spread`. InputError as for
    training."""
    return scan_folder(folder, caption_extension, None, 1, field=field, skip=skip, known=known, limit=limit, role=REFERENCES)


def scan_folder(
    folder: Path,
    caption_extension: str,
    class_token: str | None,
    repeats: int,
    *,
    prefix: str = "",
    field: str,
    skip: bool = False,
    known: KnownImages | None = None,
    limit: int | None = None,
    role: str = TRAINING,
) -> Reading:
    """The images directly in one folder, sorted by name, `prefix` before it; those without a caption have `class_token`, or are a problem."""
    check_folder(folder, field)
    reading, bad = Reading(folder, [], role=role), list[Problem]()
    found = _read_folder(folder, prefix, caption_extension, class_token, repeats, reading.notices, bad)
    found = spread(found, limit) if limit is not None else found
    if not found and not bad:
        raise without_images(folder, field, _instead(reading), classes=False)
    readable = _check(found, field, bad, reading, known)
    if not skip or not readable:
        _raise_all(reading.problems)
    reading.folders.append(ClassFolder(prefix[:-1], class_token or "", repeats, len(readable)))
    return _counted(reading, readable)


def spread(items: Sequence[CaptionedImage], limit: int) -> list[CaptionedImage]:
    """At most `limit` of the items, in their order: of as many equal stretches of them one each, drawn by a fixed seed.

    So every class folder, and every part of a folder that is sorted by date or by model, has its share.
    """
    if len(items) <= limit:
        return list(items)
    ends = [number * len(items) // limit for number in range(limit + 1)]
    drawn = (low + derive_seed(0, "references", number) % (high - low) for number, (low, high) in enumerate(pairwise(ends)))
    return [items[index] for index in drawn]


def count_images(folder: Path) -> int:
    """How many image files lie directly in a folder."""
    return sum(is_image(path.name) for path in folder.iterdir())


def load_unchanged(item: CaptionedImage) -> Image.Image:
    """The picture of an item, as `load_picture`. InputError when the file no longer has the bytes that it had when it was checked."""
    content = read_whole(item.path)
    if item.sha256 and hashlib.sha256(content).hexdigest() != item.sha256:
        raise InputError(
            tr("data.train_data_dir: {path!r} was changed while the training ran; start again", path=str(item.path))
        )
    return load_picture(io.BytesIO(content))


def file_digest(item: CaptionedImage) -> str:
    """SHA-256 of a picture's bytes."""
    return item.sha256 or hashlib.sha256(read_whole(item.path)).hexdigest()


def data_digest(items: Iterable[CaptionedImage]) -> str:
    """SHA-256 over names, image bytes, captions and repeats, independent of where the folder lies."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.name}\0{file_digest(item)}\0{item.caption}\0{item.repeats}\n".encode())
    return digest.hexdigest()


def look_at_files(
    items: Sequence[CaptionedImage], field: str, problems: list[str], *, least: int = 1, known: KnownImages | None = None
) -> list[CaptionedImage]:
    """The items that decode and have sides of at least `least` pixels, with size and hashes; the others are described in `problems`.

    What is `known` is not decoded, and what is found becomes known.
    """
    looked = _look_at(items, field, least, known)
    problems += [one.line for one in looked if isinstance(one, _Unusable)]
    return [one[0] for one in looked if not isinstance(one, _Unusable)]


Looked = tuple[CaptionedImage, bool]
"""An item with what its file is, and whether the file holds several pictures."""


@dataclass(frozen=True)
class _Unusable:
    line: str
    """Names the file and the fix."""
    reason: str


def _look_at(items: Sequence[CaptionedImage], field: str, least: int, known: KnownImages | None) -> list[Looked | _Unusable]:
    """Each item with what its file is, or what is wrong with it."""

    def look(item: CaptionedImage) -> Looked | _Unusable:
        try:
            found, state = looked_at(item.path)
        except (PictureError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            return _Unusable(unreadable_image(item.path, field, reason), reason)
        if min(found.size) < least:
            size = tr("{width} x {height} pixels", width=found.size[0], height=found.size[1])
            return _Unusable(too_small_image(item.path, field, size, least), size)
        if known is not None:
            known.put(item.path, state, found)
        return _as_found(item, found)

    results: list[Looked | _Unusable | None] = [None] * len(items)
    for index, item in enumerate(items):
        found = known.get(item.path) if known is not None else None
        if found is not None and min(found.size) >= least:
            results[index] = _as_found(item, found)
    unknown = [index for index, result in enumerate(results) if result is None]
    shown = bar(tr("check images"), len(unknown)) if len(unknown) >= _MANY else nullcontext()
    workers = min(8, os.cpu_count() or 1)
    at_once = min(_AT_ONCE, -(-len(unknown) // (4 * workers))) or 1
    tasks = [unknown[start : start + at_once] for start in range(0, len(unknown), at_once)]
    with ThreadPoolExecutor(workers) as pool, shown as progress:
        for task, found_of in zip(tasks, pool.map(lambda some: [look(items[index]) for index in some], tasks), strict=True):
            for index, result in zip(task, found_of, strict=True):
                results[index] = result
            if progress is not None:
                progress.advance(len(task))
    if known is not None:
        known.save()
    return [result for result in results if result is not None]


def _as_found(item: CaptionedImage, found: Known) -> Looked:
    return replace(item, size=found.size, sha256=found.sha256, hashes=found.hashes), found.several


def _class_folders(reading: Reading, field: str) -> list[tuple[re.Match[str], Path]]:
    """The `N_class` folders, sorted; what else lies beside them is noticed. InputError when there is none."""
    folder, classes = reading.folder, []
    listing = list_folder(folder, read_below=True)
    for path in listing.folders:
        match = CLASS_FOLDER.fullmatch(path.name)
        if match:
            classes.append((match, path))
        elif inside := images_below(path):
            reading.notices.append(Notice(Kind.UNNUMBERED, f"{printable(path.name)}/", count_of(inside), inside))
    if not classes:
        raise without_class_folders(folder, field, images=bool(listing.images))
    reading.notices.extend(Notice(Kind.LOOSE, printable(path.name)) for path in listing.images)
    reading.notices.extend(listing.notices)
    return classes


def _read_folder(
    folder: Path, prefix: str, extension: str, token: str | None, repeats: int, notices: list[Notice], bad: list[Problem]
) -> list[CaptionedImage]:
    """The images of one folder with a caption each; an image whose caption cannot be had is described in `bad` instead."""
    try:
        listing = list_folder(folder, prefix)
    except OSError as error:
        bad.append(
            (
                tr("{folder!r} cannot be read ({strerror})", folder=str(folder), strerror=error.strerror),
                Notice(Kind.BROKEN, prefix, error.strerror or ""),
            )
        )
        return []
    captions = read_captions(folder, listing, extension, token, prefix)
    notices += [*listing.notices, *captions.notices]
    if not listing.images and not listing.notices:
        notices.append(Notice(Kind.EMPTY_FOLDER, prefix))
    bad += captions.problems
    return [CaptionedImage(path, text, f"{prefix}{printable(path.name)}", repeats) for path, text in captions.found]


def _check(
    found: Sequence[CaptionedImage], field: str, bad: Sequence[Problem], reading: Reading, known: KnownImages | None
) -> list[CaptionedImage]:
    """The images that can be read; notes what is wrong with the others, and with those whose caption is `bad`."""
    reading.problems.extend(f"{field}: {line}" for line, _ in bad)
    reading.notices.extend(notice for _, notice in bad)
    readable = []
    for item, looked in zip(found, _look_at(found, field, 1, known), strict=True):
        if isinstance(looked, _Unusable):
            kind = Kind.DANGLING if item.path.is_symlink() and not item.path.exists() else Kind.BROKEN
            reading.problems.append(looked.line)
            reading.notices.append(Notice(kind, item.name, "" if kind is Kind.DANGLING else looked.reason))
            continue
        readable.append(looked[0])
        if looked[1]:
            reading.notices.append(Notice(Kind.SEVERAL, item.name))
    return readable


def _counted(reading: Reading, items: list[CaptionedImage]) -> Reading:
    """With the images that are used, and how many of them each folder has."""
    counts = Counter(item.name.rpartition("/")[0] for item in items)
    return replace(reading, items=items, folders=[replace(one, images=counts[one.name]) for one in reading.folders])


def _instead(reading: Reading) -> str:
    """What there is instead of images that can be read, for a message; empty where nothing is."""
    said = [line_of(kind, some, reading.role) for kind, some in by_kind(reading.notices).items() if kind.important]
    return "; ".join(said)


def _raise_all(problems: list[str]) -> None:
    if problems:
        raise InputError(problems)
