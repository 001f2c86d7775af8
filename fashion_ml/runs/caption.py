"""Captions drafted from zero-shot attributes: what an encoder is sure of, beside images that have none."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.data.caption_files import CaptionFiles
from fashion_ml.data.class_folders import CLASS_FOLDER
from fashion_ml.data.folder_listing import images_below, list_folder
from fashion_ml.data.pictures import PictureError, load_picture
from fashion_ml.embedded.collection import is_collection
from fashion_ml.errors import InputError
from fashion_ml.evaluation.instruments import load_encoder
from fashion_ml.evaluation.toy import EMBEDDED, KNOWS
from fashion_ml.metrics.attributes import AttributeReader, Category, default_attributes, read_attributes
from fashion_ml.metrics.attributes.wording import NOUNS, caption_of
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.console import bar, say, warn
from fashion_ml.runtime.language import tr, translated
from fashion_ml.runtime.links import refuse_link_out
from fashion_ml.runtime.printable import printable

if TYPE_CHECKING:
    from PIL import Image

MARGIN = 0.3
"""On the embedded collection's 72 pictures it leaves 3 % of the colours out, and 91 % of the others are right."""
CATEGORIES = (*NOUNS, "colour", "pattern")
_AT_ONCE = 16


@dataclass(frozen=True)
class Draft:
    """What one image is said to show."""

    image: Path
    name: str
    """Below the folder, printable."""
    target: Path
    """The caption file."""
    caption: str
    """Empty when no attribute is sure enough."""
    attributes: dict[str, tuple[str, float]]
    """By category the nearest label, and by how much its probability is above the next one's, in [0, 1]."""


@dataclass
class Drafts:
    """What was drafted for a folder, and what was left alone."""

    drafts: list[Draft] = field(default_factory=list)
    there: int = 0
    """Images that have a caption."""
    left: list[str] = field(default_factory=list)
    """A line for each image that was left alone for another reason."""

    @property
    def written(self) -> list[Draft]:
        """Those with a caption."""
        return [draft for draft in self.drafts if draft.caption]


def draft_captions(
    folder: Path,
    *,
    encoder: str = "",
    trigger: str = "",
    margin: float = MARGIN,
    attributes: str = "default",
    categories: Sequence[str] = CATEGORIES,
    caption_extension: str = ".txt",
    dry_run: bool = False,
) -> Drafts:
    """Write a caption beside each image of a folder, or of its `N_class` folders, that has none; files that are there are never touched.

    An attribute whose probability is less than `margin` above the next one's is left out; an image without any is left alone. `trigger` is
    added as `, TRIGGER style`. With `dry_run` nothing is written. InputError for an encoder, attributes or a folder that cannot be used, where
    a link to a folder elsewhere holds images without a caption, and for the embedded encoder on pictures of one's own when it was not named.
    """
    _check(folder, margin, trigger, caption_extension)
    _check_toy(folder, encoder)
    result = Drafts()
    waiting = list(_without_caption(folder, caption_extension, result))
    if not waiting:
        return result
    for place in sorted({image.parent for image, _ in waiting}):
        refuse_link_out(place, folder, "DIR")
    clip = load_encoder(encoder or EMBEDDED)
    read = read_attributes(default_attributes(clip.name) if attributes == "default" else Path(attributes).expanduser())
    wanted = _wanted(read.categories, categories)
    reader = AttributeReader(read, clip)
    with bar(tr("draft captions"), len(waiting)) as progress:
        for first in range(0, len(waiting), _AT_ONCE):
            part = waiting[first : first + _AT_ONCE]
            for (image, name), found in zip(*_read(part, reader, clip, result), strict=True):
                sure = {one.name: found[one.name][0] for one in wanted if found[one.name][1] >= margin}
                caption = caption_of(sure, wanted)
                caption += f", {trigger} style" if caption and trigger else ""
                target = image.with_suffix(caption_extension)
                result.drafts.append(Draft(image, name, target, caption, {one.name: found[one.name] for one in wanted}))
                if caption and not dry_run:
                    write_text(target, f"{caption}\n")
            progress.advance(len(part))
    return result


def _check(folder: Path, margin: float, trigger: str, extension: str) -> None:
    problems = []
    if not folder.is_dir():
        problems.append(tr("DIR: {folder!r} is no folder; give the folder of the images", folder=str(folder)))
    if not 0 <= margin < 1:
        problems.append(tr("--margin: {margin:g} is not accepted; give a number from 0 to below 1", margin=margin))
    if not re.fullmatch(r"\.[^/\\]+", extension):
        problems.append(
            tr("--caption_extension: {extension!r} is not accepted; give an ending such as .txt", extension=extension)
        )
    if "\n" in trigger:
        problems.append(tr("--trigger: holds more than one line; give a word, such as zarya"))
    if problems:
        raise InputError(problems)


def _check_toy(folder: Path, encoder: str) -> None:
    """The embedded encoder is refused on pictures of one's own, and warned of when it is named."""
    if encoder not in ("", EMBEDDED) or is_collection(folder) or is_collection(folder.absolute().parent):
        return
    where = tr(
        "--encoder: embedded is {knows}, and {folder!r} is not of its world", knows=translated(KNOWS), folder=str(folder)
    )
    if not encoder:
        raise InputError(
            tr(
                "{where}; give --encoder patrickjohncyh/fashion-clip (fetched once) or the folder of one; with "
                "--encoder embedded it is taken all the same",
                where=where,
            )
        )
    warn(tr("{where}: its captions of photos are guesses, however sure they look", where=where))


def _without_caption(folder: Path, extension: str, result: Drafts) -> Iterator[tuple[Path, str]]:
    """The images without a caption, with their names; counts and notes the others."""
    top = list_folder(folder)
    places = [path for path in top.folders if CLASS_FOLDER.fullmatch(path.name)]
    if places and top.images:
        result.left.append(
            tr("{count} images beside the N_class folders are not looked at; call this on them alone", count=len(top.images))
        )
    result.left += [
        tr("{name}/ is not looked into ({images_below} images)", name=printable(path.name), images_below=images_below(path))
        for path in top.folders
        if path not in places and images_below(path)
    ]
    listings = {place: list_folder(place) for place in places or [folder]}
    result.left += [
        tr(
            "{name}/{name_2}/ is not looked into ({images_below} images); move them up",
            name=printable(place.name),
            name_2=printable(path.name),
            images_below=images_below(path),
        )
        for place, listing in listings.items()
        for path in (listing.folders if places else ())
        if images_below(path)
    ]
    if not any(listing.images for listing in listings.values()):
        there = f" ({result.left[0]})" if result.left else ""
        raise InputError(
            tr(
                "DIR: {folder!r} holds no images, neither itself nor in folders named N_class{there}",
                folder=str(folder),
                there=there,
            )
        )
    for place, listing in listings.items():
        prefix = f"{printable(place.name)}/" if places else ""
        files, taken = CaptionFiles(frozenset(listing.others), extension), set[Path]()
        for path in listing.images:
            target, name = path.with_suffix(extension), prefix + printable(path.name)
            near = [printable(one) for one in files.near(path.name)]
            if files.of(path.name) or os.path.lexists(target):
                result.there += 1
            elif near:
                result.left.append(
                    tr(
                        "{name} has {names} beside it; rename that, or give --caption_extension",
                        name=name,
                        names=", ".join(near),
                    )
                )
            elif target in taken:
                result.left.append(tr("{name} would share its caption with another image of that name", name=name))
            else:
                taken.add(target)
                yield path, name


def _wanted(there: Sequence[Category], names: Sequence[str]) -> list[Category]:
    found = [one for one in there if one.name in names]
    unknown = [name for name in names if name not in {one.name for one in there} and name not in CATEGORIES]
    if unknown or not found:
        raise InputError(
            tr(
                "--categories: {names} is not among the attributes; there are {names_2}",
                names=", ".join(unknown or names),
                names_2=", ".join(one.name for one in there),
            )
        )
    return found


def _read(
    part: Sequence[tuple[Path, str]], reader: AttributeReader, clip: Any, result: Drafts
) -> tuple[list[tuple[Path, str]], list[dict[str, tuple[str, float]]]]:
    """Those of the images that can be opened, and what is read from them."""
    pictures: list[Image.Image] = []
    opened = []
    for path, name in part:
        try:
            pictures.append(load_picture(path))
            opened.append((path, name))
        except (PictureError, OSError) as error:
            result.left.append(tr("{name} cannot be read ({error})", name=name, error=error))
            say(tr("left out: {left}", left=result.left[-1]))
    return opened, reader.margins(clip.embed_images(pictures)) if pictures else []
