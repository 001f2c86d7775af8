"""What is noticed about a folder of images while it is read, and how it is said: a line for each kind, with what changes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

_EXAMPLES = 3


class Kind(Enum):
    """What can be noticed: its name in `summary.json`, what it means, what changes it, and whether something is not as it was meant."""

    NESTED = "nested_folders", "not looked into, for they lie inside another folder", "move their images up", True
    UNNUMBERED = "unnumbered_folders", "left out, for the name is not N_class", "rename to 1_class, or move the images", True
    LOOSE = "loose_images", "left out, for they lie in no N_class folder", "move them into one, such as 1_dress", True
    EMPTY_FOLDER = "empty_folders", "no image in the folder", "put images into it, or remove it", True
    HIDDEN = "hidden_images", "left out, for the name begins with a dot", "rename those that are images of yours", True
    NEEDS_PACKAGE = (
        "images_that_need_a_package",
        "left out, for no package reads them here",
        "pip install it, or convert them",
        True,
    )
    UNKNOWN_ENDING = "unknown_endings", "files of other endings, not read", "convert those that are images to .png", True
    BROKEN = "broken_images", "left out, for they cannot be read", "replace them; data.on_bad_image: error stops instead", True
    DANGLING = "dangling_links", "links to what is not there", "mend or remove them", True
    MISSING = (
        "captions_missing",
        "no caption, so the class is trained as one",
        "data.caption_extension, or rename the files",
        True,
    )
    UNREADABLE = "captions_unreadable", "left out with a caption that cannot be read", "save it as UTF-8", True
    ORPHAN = "captions_without_image", "captions of no image", "rename to the stem of the image, or remove them", True
    EMPTY = "captions_empty", "the caption file is empty and trained as that", "write one; remove the file for the class", True
    LINES = "captions_of_several_lines", "several lines, all trained as one caption", "keep one line in each file", False
    BOM = (
        "captions_with_a_bom",
        "a byte order mark in some files, left away",
        "nothing to do, or save as UTF-8 without BOM",
        False,
    )
    ODD = "captions_with_odd_characters", "characters that cannot be seen, trained as they are", "save the text anew", True
    SYNTAX = "captions_in_prompt_syntax", "weights or brackets of a prompt, trained as letters", "write plain words", True
    TOO_LONG = (
        "captions_too_long",
        "captions are longer than the model reads, and cut",
        "shorten, or data.max_token_length",
        True,
    )
    IDENTICAL = "captions_identical", "images share a caption with others", "write what differs", False
    LEAK = "references_in_training", "references look like training images", "take others out: fashion-ml split", True
    COPIES = "exact_duplicates", "copies of the same bytes", "remove them; N of N_class repeats", True
    NEAR = "near_duplicates", "images look like another one", "keep the best; data.validation_split keeps them together", False
    TINY = "very_small_images", "images are scaled up more than 4 x", "data.resolution, or leave them out", True
    UPSCALED = "upscaled_images", "images are scaled up more than 2 x", "data.resolution, data.bucket_no_upscale", False
    EXTREME = "extreme_shapes", "images are longer than 3 x their width or height", "cut them, or data.max_bucket_reso", False
    CROPPED = "cropped_images", "images lose more than 25 % to the crop", "data.enable_bucket, data.min/max_bucket_reso", False
    SEVERAL = "several_pictures_in_a_file", "of an animation or pages the first picture is read", "save the others apart", False

    def __init__(self, key: str, what: str, change: str, important: bool):
        self.key, self.what, self.change, self.important = key, what, change, important


@dataclass(frozen=True, slots=True)
class Notice:
    """Something noticed about a file or folder."""

    kind: Kind
    name: str
    """The file or folder, below the folder that was read, with forward slashes; printable. Folders end in a slash."""
    detail: str = ""
    """What is to be known beside the kind: how many images, which file lies beside it, why."""
    count: int = 1
    """Files that it stands for."""

    def __str__(self) -> str:
        return f"{self.name} ({self.detail})" if self.detail else self.name


def by_kind(notices: Iterable[Notice]) -> dict[Kind, list[Notice]]:
    """Notices of each kind that there is, in the order of the kinds."""
    found: dict[Kind, list[Notice]] = {kind: [] for kind in Kind}
    for notice in notices:
        found[notice.kind].append(notice)
    return {kind: some for kind, some in found.items() if some}


def line_of(kind: Kind, notices: Sequence[Notice]) -> str:
    """How many, what it means, up to three of them, and what changes it."""
    return f"{sum(one.count for one in notices)} {kind.what}: {some_of([str(one) for one in notices])} [{kind.change}]"


def some_of(names: Sequence[str], most: int = _EXAMPLES) -> str:
    """Up to `most` of the names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
