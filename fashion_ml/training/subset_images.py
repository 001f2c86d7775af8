"""Training images of folders that each have settings of their own, and captions as the settings have them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from fashion_ml.config import Data, Subset
from fashion_ml.data.captions import CaptionSettings, lines_of, plain_caption
from fashion_ml.data.image_index import KnownImages
from fashion_ml.data.images import CaptionedImage, Reading, scan_folder
from fashion_ml.data.notices import Kind, Notice
from fashion_ml.errors import InputError


def scan_subsets(data: Data, *, prior: bool, known: KnownImages | None = None) -> dict[str, Reading]:
    """The folders of data.subsets by their names, those for prior preservation or the others. InputError with every problem at once."""
    readings, problems = dict[str, Reading](), list[str]()
    names = _names(data.subsets)
    for index, subset in enumerate(data.subsets):
        if subset.is_reg != prior:
            continue
        try:
            reading = scan_folder(
                Path(subset.image_dir).expanduser(),
                subset.caption_extension or data.caption_extension,
                subset.class_tokens,
                subset.num_repeats,
                prefix=f"{names[index]}/",
                field=f"data.subsets.{index}.image_dir",
                skip=data.on_bad_image == "skip",
                known=known,
            )
        except InputError as error:
            problems += error.problems
        else:
            items = [_of_subset(item, subset, data) for item in reading.items]
            readings[names[index]] = replace(reading, items=items, notices=_as_meant(reading, data, subset))
    if problems:
        raise InputError(problems)
    return readings


def as_meant(reading: Reading, data: Data) -> Reading:
    """What a folder holds, without what is noticed of its captions but is meant by the settings."""
    return replace(reading, items=with_lines(reading.items, data), notices=_as_meant(reading, data))


def with_lines(items: Sequence[CaptionedImage], data: Data) -> list[CaptionedImage]:
    """The images with what of their caption files data.caption_lines and data.enable_wildcard say."""
    each, whole = data.enable_wildcard, data.caption_lines == "all"
    return [replace(item, caption=lines_of(item.caption, each=each, all_lines=whole)) for item in items]


def as_prompts(items: Sequence[CaptionedImage], data: Data) -> list[CaptionedImage]:
    """The images with captions in which nothing is left to be drawn, as evaluation and validation see them."""
    return [
        replace(item, caption=plain_caption(item.caption, one), captions=CaptionSettings())
        for item, one in zip(items, settings_of_each(items, data), strict=True)
    ]


def settings_of_each(items: Sequence[CaptionedImage], data: Data) -> list[CaptionSettings]:
    """How the caption of each image is seen: by its own settings where it has some, else by those of all data."""
    of_all = caption_settings(data)
    return [item.captions or of_all for item in items]


def caption_settings(data: Data, subset: Subset | None = None) -> CaptionSettings:
    """How captions are seen, each setting by its name: the subset's where it has one, else that of the data."""
    own = [field.name for field in fields(CaptionSettings)]
    given = {name: getattr(subset, name) for name in own} if subset else {}
    return CaptionSettings(**{name: getattr(data, name) if given.get(name) is None else given[name] for name in own})


def subsets_folder(subsets: Sequence[Subset]) -> Path:
    """The folder that all of them lie in, or the only one."""
    return Path(os.path.commonpath([Path(subset.image_dir).expanduser().absolute() for subset in subsets]))


def _as_meant(reading: Reading, data: Data, subset: Subset | None = None) -> list[Notice]:
    settings = caption_settings(data, subset)
    whole = ((subset and subset.caption_lines) or data.caption_lines) == "all"
    meant = [Kind.LINES] if whole or settings.enable_wildcard else []
    meant += [Kind.SYNTAX] if settings.enable_wildcard or data.weighted_captions else []
    return [notice for notice in reading.notices if notice.kind not in meant]


def _of_subset(item: CaptionedImage, subset: Subset, data: Data) -> CaptionedImage:
    settings = caption_settings(data, subset)
    whole = (subset.caption_lines or data.caption_lines) == "all"
    caption = lines_of(item.caption, each=settings.enable_wildcard, all_lines=whole)
    flip = data.flip_aug if subset.flip_aug is None else subset.flip_aug
    return replace(item, caption=caption, captions=settings, flip_aug=flip)


def _names(subsets: Sequence[Subset]) -> list[str]:
    """A name for each: that of its folder, with a number where two are called alike."""
    names = [Path(subset.image_dir).name or "images" for subset in subsets]
    twice = {name for name, count in Counter(names).items() if count > 1}
    return [f"{index}_{name}" if name in twice else name for index, name in enumerate(names)]
