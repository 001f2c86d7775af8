"""One folder of images with their captions: what lies in it, and what of it is left out."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fashion_ml.data.caption_files import MOST_BYTES, CaptionFiles, encoding_of, is_text, read_caption
from fashion_ml.data.notices import Kind, Notice
from fashion_ml.data.pictures import is_image, missing_package
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.printable import is_printable, printable

Problem = tuple[str, Notice]
"""A line that names a file and the fix, and the same as a notice."""
_MOST_COUNTED = 10_000
"""Images below a folder that is left out are counted up to here."""


@dataclass(frozen=True)
class Listing:
    """What lies in one folder, before any file is opened."""

    images: list[Path]
    """In the order of their names."""
    others: list[str]
    """Names of the other files."""
    folders: list[Path]
    notices: list[Notice] = field(default_factory=list)


def list_folder(folder: Path, prefix: str = "", *, read_below: bool = False) -> Listing:
    """Look at one folder, not into those inside; `prefix` stands before the names in the notices.

    Images in folders inside are noticed, unless they are `read_below`. OSError when the folder cannot be read.
    """
    images, others, folders, notices = list[Path](), list[str](), list[Path](), list[Notice]()
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        package = missing_package(entry.name)
        if entry.is_dir():
            folders.append(folder / entry.name)
        elif package and not entry.name.startswith("."):
            notices.append(Notice(Kind.NEEDS_PACKAGE, prefix + printable(entry.name), package))
        elif is_image(entry.name):
            images.append(folder / entry.name)  # a dangling link too: whoever reads it says so
        elif is_image(entry.name.lstrip("._")):
            notices.append(Notice(Kind.HIDDEN, prefix + printable(entry.name)))
        elif entry.is_symlink() and not (folder / entry.name).exists():
            notices.append(Notice(Kind.DANGLING, prefix + printable(entry.name)))
        else:
            others.append(entry.name)
    for path in folders if not read_below else ():
        inside = images_below(path)
        if inside:
            notices.append(Notice(Kind.NESTED, f"{prefix}{printable(path.name)}/", count_of(inside), inside))
    return Listing(images, others, folders, notices)


def images_below(folder: Path) -> int:
    """Images in a folder and in those inside, up to 10,000."""
    count = 0
    for _, _, names in os.walk(folder):
        count += sum(is_image(name) or (missing_package(name) is not None and not name.startswith(".")) for name in names)
        if count >= _MOST_COUNTED:
            return _MOST_COUNTED
    return count


def count_of(images: int) -> str:
    """`1 image`, `1,234 images`."""
    return tr("{images:,} image", images=images) if images == 1 else tr("{images:,} images", images=images)


@dataclass(frozen=True)
class Captions:
    """The images of a folder that have a caption, and what is wrong with the others."""

    found: list[tuple[Path, str]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read_captions(folder: Path, listing: Listing, extension: str, class_token: str | None, prefix: str = "") -> Captions:
    """The captions of a folder's images; one without a file has `class_token`, or with None a problem."""
    names = [
        *listing.others,
        *(path.name for path in listing.folders if path.name.endswith(extension)),
    ]  # read as a file, and refused
    files, result, near = CaptionFiles(frozenset(names), extension), Captions(), set[str]()
    for path in listing.images:
        name, beside = prefix + printable(path.name), files.of(path.name)
        if beside is None:
            candidates = files.near(path.name)
            near.update(candidates)
            hint = tr("{names} beside it", names=", ".join(printable(one) for one in candidates[:3])) if candidates else ""
            notice = Notice(Kind.MISSING, name, hint)
            if class_token is not None and is_printable(class_token):
                result.found.append((path, class_token))
                result.notices.append(notice)
            else:
                result.problems.append((_without_caption(path, class_token, extension, hint), notice))
            continue
        text, kinds, problem = _read(folder / beside)
        if problem:
            result.problems.append(
                (
                    tr("caption {folder!r} {problem}", folder=str(folder / beside), problem=problem),
                    Notice(Kind.UNREADABLE, name, problem),
                )
            )
        else:
            result.found.append((path, text))
            result.notices.extend(Notice(kind, prefix + printable(beside)) for kind in kinds)
    if sum(one.kind is Kind.BOM for one in result.notices) == len(files.used):  # all alike, as one editor writes them
        result.notices[:] = [one for one in result.notices if one.kind is not Kind.BOM]
    result.notices.extend(_of_no_image(listing.others, files, near, prefix))
    return result


def _without_caption(path: Path, class_token: str | None, extension: str, hint: str) -> str:
    if class_token is not None:
        return tr(
            "{parent!r} is not UTF-8, and its name would be the caption of {name}; rename the folder",
            parent=str(path.parent),
            name=printable(path.name),
        )
    said = f" ({hint})" if hint else ""
    return tr(
        "{path!r} has no caption{said}; write what it shows into {stem}{extension}",
        path=str(path),
        said=said,
        stem=printable(path.stem),
        extension=extension,
    )


def _read(path: Path) -> tuple[str, list[Kind], str]:
    """Text and oddities of a caption file, and what is wrong with it, empty when it can be read."""
    try:
        content = read_whole(path, MOST_BYTES)
        return *read_caption(content), ""
    except UnicodeDecodeError as error:
        encoding = encoding_of(content)
        return "", [], tr("is not UTF-8 ({value}); save it as UTF-8", value=encoding or tr("byte {start}", start=error.start))
    except OSError as error:
        if error.errno == errno.EFBIG:
            return "", [], tr("has more than {most:,} bytes; a caption is a few words: shorten it", most=MOST_BYTES)
        return "", [], tr("cannot be read ({value}); make it a text file", value=error.strerror or error)


def _of_no_image(names: Sequence[str], files: CaptionFiles, near: set[str], prefix: str) -> list[Notice]:
    """Captions without an image, and how many files there are of every other ending."""
    orphans = [name for name in files.without_image() if name not in near]
    rest = sorted(set(names) - files.used - near - set(orphans))
    return [*(Notice(Kind.ORPHAN, prefix + printable(name)) for name in orphans), *_by_ending(rest, prefix)]


def other_endings(names: Sequence[str], prefix: str) -> list[Notice]:
    """How many files there are of every ending but those of texts."""
    return _by_ending([name for name in names if not is_text(name)], prefix)


def _by_ending(names: Sequence[str], prefix: str) -> list[Notice]:
    endings = Counter(printable(Path(name).suffix.lower() or name) for name in names if not name.startswith("."))
    return [Notice(Kind.UNKNOWN_ENDING, f"{prefix}*{ending}", str(count), count) for ending, count in sorted(endings.items())]
