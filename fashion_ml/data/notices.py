"""What is noticed about a folder of images while it is read, and how it is said: a line for each kind, with what changes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

_EXAMPLES = 3
_ONE = {
    "images": "image",
    "files": "file",
    "folders": "folder",
    "captions": "caption",
    "references": "reference",
    "links": "link",
    "copies": "copy",
}


class Kind(Enum):
    """What can be noticed: its name in `summary.json`, what it means, what changes it, and whether something is not as it was meant."""

    NESTED = "nested_folders", "images in folders inside another one, not looked into", "move them up", True
    UNNUMBERED = (
        "unnumbered_folders",
        "images in folders whose name is not N_class, left out",
        "rename to 1_class, or move the images",
        True,
    )
    LOOSE = "loose_images", "images in no N_class folder, left out", "move them into one, such as 1_dress", True
    EMPTY_FOLDER = "empty_folders", "folders without an image", "put images into them, or remove them", True
    HIDDEN = "hidden_images", "images whose name begins with a dot, left out", "rename those that are yours", True
    NEEDS_PACKAGE = (
        "images_that_need_a_package",
        "images that nothing installed reads, left out",
        "pip install the package, or convert them",
        True,
    )
    UNKNOWN_ENDING = "unknown_endings", "files of other endings, not read", "convert those that are images to .png", True
    BROKEN = (
        "broken_images",
        "images that cannot be read, left out",
        "replace them; data.on_bad_image: error stops instead",
        True,
    )
    DANGLING = "dangling_links", "links to what is not there", "mend or remove them", True
    MISSING = (
        "captions_missing",
        "images without a caption file, trained on the class",
        "data.caption_extension, or rename the files",
        True,
    )
    UNREADABLE = "captions_unreadable", "images with a caption that cannot be read, left out", "save it as UTF-8", True
    ORPHAN = "captions_without_image", "captions of no image", "give them the name of their image, or remove them", True
    EMPTY = (
        "captions_empty",
        "files with an empty caption, trained as that",
        "write one, or remove the file for the class",
        True,
    )
    LINES = (
        "captions_of_several_lines",
        "captions of several lines, of which the first is used",
        "data.caption_lines, data.enable_wildcard",
        True,
    )
    BOM = "captions_with_a_bom", "captions with a byte order mark, left away, while others have none", "nothing to do", False
    ODD = (
        "captions_with_odd_characters",
        "captions with characters that cannot be seen, trained as they are",
        "save the text anew",
        True,
    )
    SYNTAX = (
        "captions_in_prompt_syntax",
        "captions with weights or brackets of a prompt, trained as letters",
        "data.enable_wildcard, data.weighted_captions",
        True,
    )
    TOO_LONG = "captions_too_long", "captions longer than the model reads, cut", "shorten them, or data.max_token_length", True
    MASKLESS = "images_without_a_mask", "images without a mask, which count whole", "data.masks", False
    IDENTICAL = "captions_identical", "images with a caption that others have too", "write what differs", False
    LEAK = "references_in_training", "references that look like training images", "take others out: fashion-ml split", True
    COPIES = "exact_duplicates", "copies of the same bytes", "remove them; N of N_class repeats", True
    NEAR = (
        "near_duplicates",
        "images that look like another one",
        "keep the best; data.validation_split keeps them together",
        False,
    )
    TINY = "very_small_images", "images scaled up more than 4 x", "data.resolution, or leave them out", True
    UPSCALED = "upscaled_images", "images scaled up more than 2 x", "data.resolution, data.bucket_no_upscale", False
    EXTREME = "extreme_shapes", "images longer than 3 x their other side", "cut them, or data.max_bucket_reso", False
    CROPPED = (
        "cropped_images",
        "images of which more than 25 % is cropped away",
        "data.enable_bucket, data.min/max_bucket_reso",
        False,
    )
    SEVERAL = (
        "several_pictures_in_a_file",
        "files of several pictures, of which the first is read",
        "save the others apart",
        False,
    )

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


TRAINING, REFERENCES, DOMAINS = "training", "references", "domains"
"""What a folder is for; one for domains holds a folder of images, or of latents, for each."""
_OTHERWISE = {
    REFERENCES: {
        Kind.MISSING: ("images without a caption, left out", "data.caption_extension, or write what they show"),
        Kind.EMPTY: ("files with an empty caption, so the prompt is empty", "write what the image shows"),
        Kind.COPIES: (Kind.COPIES.what, "remove them"),
        Kind.NEAR: (Kind.NEAR.what, "keep the best"),
    },
    DOMAINS: {
        Kind.LOOSE: ("files in no folder of a domain, left out", "move them into one"),
        Kind.EMPTY_FOLDER: ("folders of nothing that can be used", "fill it, or remove it"),
        Kind.UNKNOWN_ENDING: (Kind.UNKNOWN_ENDING.what, "give .png for images, .pt or .npy for latents"),
        Kind.BROKEN: (Kind.BROKEN.what, "replace or remove them"),
        Kind.COPIES: (Kind.COPIES.what, "remove them"),
        Kind.NEAR: (Kind.NEAR.what, "keep the best"),
        Kind.TINY: (Kind.TINY.what, "--size, or leave them out"),
        Kind.UPSCALED: (Kind.UPSCALED.what, "--size"),
        Kind.EXTREME: (Kind.EXTREME.what, "cut them"),
        Kind.CROPPED: (Kind.CROPPED.what, "cut them to squares"),
    },
}
"""What is said otherwise of them."""


def words_of(kind: Kind, role: str) -> tuple[str, str]:
    """What a kind means and what changes it, for a folder that is for something."""
    return _OTHERWISE.get(role, {}).get(kind, (kind.what, kind.change))


def line_of(kind: Kind, notices: Sequence[Notice], role: str = TRAINING) -> str:
    """How many, what it means, up to three of them, and what changes it."""
    what, change = words_of(kind, role)
    count = sum(one.count for one in notices)
    if count == 1:
        first, _, rest = what.partition(" ")
        what = f"{_ONE[first]} {rest}"
    return f"{count:,} {what}: {some_of([str(one) for one in notices])} [{change}]"


def some_of(names: Sequence[str], most: int = _EXAMPLES) -> str:
    """The first `most` of the names, and how many more there are."""
    if len(names) <= most + 1:  # the last one is as short as `and 1 more`
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"
