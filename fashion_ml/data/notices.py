"""What is noticed about a folder of images while it is read, and how it is said: a line for each kind, with what changes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from fashion_ml.runtime.language import language, marked, tr, translated

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

    NESTED = "nested_folders", marked("images in folders inside another one, not looked into"), marked("move them up"), True
    UNNUMBERED = (
        "unnumbered_folders",
        marked("images in folders whose name is not N_class, left out"),
        marked("rename to 1_class, or move the images"),
        True,
    )
    LOOSE = "loose_images", marked("images in no N_class folder, left out"), marked("move them into one, such as 1_dress"), True
    EMPTY_FOLDER = "empty_folders", marked("folders without an image"), marked("put images into them, or remove them"), True
    HIDDEN = (
        "hidden_images",
        marked("images whose name begins with a dot, left out"),
        marked("rename those that are yours"),
        True,
    )
    NEEDS_PACKAGE = (
        "images_that_need_a_package",
        marked("images that nothing installed reads, left out"),
        marked("pip install the package, or convert them"),
        True,
    )
    UNKNOWN_ENDING = (
        "unknown_endings",
        marked("files of other endings, not read"),
        marked("convert those that are images to .png"),
        True,
    )
    BROKEN = (
        "broken_images",
        marked("images that cannot be read, left out"),
        marked("replace them; data.on_bad_image: error stops instead"),
        True,
    )
    DANGLING = "dangling_links", marked("links to what is not there"), marked("mend or remove them"), True
    MISSING = (
        "captions_missing",
        marked("images without a caption file, trained on the class"),
        marked("data.caption_extension, or rename the files"),
        True,
    )
    UNREADABLE = (
        "captions_unreadable",
        marked("images with a caption that cannot be read, left out"),
        marked("save it as UTF-8"),
        True,
    )
    ORPHAN = (
        "captions_without_image",
        marked("captions of no image"),
        marked("give them the name of their image, or remove them"),
        True,
    )
    EMPTY = (
        "captions_empty",
        marked("files with an empty caption, trained as that"),
        marked("write one, or remove the file for the class"),
        True,
    )
    LINES = (
        "captions_of_several_lines",
        marked("captions of several lines, of which the first is used"),
        marked("data.caption_lines, data.enable_wildcard"),
        True,
    )
    BOM = (
        "captions_with_a_bom",
        marked("captions with a byte order mark, left away, while others have none"),
        marked("nothing to do"),
        False,
    )
    ODD = (
        "captions_with_odd_characters",
        marked("captions with characters that cannot be seen, trained as they are"),
        marked("save the text anew"),
        True,
    )
    SYNTAX = (
        "captions_in_prompt_syntax",
        marked("captions with weights or brackets of a prompt, trained as letters"),
        marked("data.enable_wildcard, data.weighted_captions"),
        True,
    )
    TOO_LONG = (
        "captions_too_long",
        marked("captions longer than the model reads, cut"),
        marked("shorten them, or data.max_token_length"),
        True,
    )
    MASKLESS = "images_without_a_mask", marked("images without a mask, which count whole"), marked("data.masks"), False
    IDENTICAL = "captions_identical", marked("images with a caption that others have too"), marked("write what differs"), False
    LEAK = (
        "references_in_training",
        marked("references that look like training images"),
        marked("take others out: fashion-ml split"),
        True,
    )
    COPIES = "exact_duplicates", marked("copies of the same bytes"), marked("remove them; N of N_class repeats"), True
    NEAR = (
        "near_duplicates",
        marked("images that look like another one"),
        marked("keep the best; data.validation_split keeps them together"),
        False,
    )
    TINY = "very_small_images", marked("images scaled up more than 4 x"), marked("data.resolution, or leave them out"), True
    UPSCALED = (
        "upscaled_images",
        marked("images scaled up more than 2 x"),
        marked("data.resolution, data.bucket_no_upscale"),
        False,
    )
    EXTREME = (
        "extreme_shapes",
        marked("images longer than 3 x their other side"),
        marked("cut them, or data.max_bucket_reso"),
        False,
    )
    CROPPED = (
        "cropped_images",
        marked("images of which more than 25 % is cropped away"),
        marked("data.enable_bucket, data.min/max_bucket_reso"),
        False,
    )
    SEVERAL = (
        "several_pictures_in_a_file",
        marked("files of several pictures, of which the first is read"),
        marked("save the others apart"),
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
        Kind.MISSING: (marked("images without a caption, left out"), marked("data.caption_extension, or write what they show")),
        Kind.EMPTY: (marked("files with an empty caption, so the prompt is empty"), marked("write what the image shows")),
        Kind.COPIES: (Kind.COPIES.what, marked("remove them")),
        Kind.NEAR: (Kind.NEAR.what, marked("keep the best")),
    },
    DOMAINS: {
        Kind.LOOSE: (marked("files in no folder of a domain, left out"), marked("move them into one")),
        Kind.EMPTY_FOLDER: (marked("folders of nothing that can be used"), marked("fill it, or remove it")),
        Kind.UNKNOWN_ENDING: (Kind.UNKNOWN_ENDING.what, marked("give .png for images, .pt or .npy for latents")),
        Kind.BROKEN: (Kind.BROKEN.what, marked("replace or remove them")),
        Kind.COPIES: (Kind.COPIES.what, marked("remove them")),
        Kind.NEAR: (Kind.NEAR.what, marked("keep the best")),
        Kind.TINY: (Kind.TINY.what, marked("--size, or leave them out")),
        Kind.UPSCALED: (Kind.UPSCALED.what, "--size"),
        Kind.EXTREME: (Kind.EXTREME.what, marked("cut them")),
        Kind.CROPPED: (Kind.CROPPED.what, marked("cut them to squares")),
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
    if count == 1 and language() == "en":
        first, _, rest = what.partition(" ")
        what = f"{_ONE[first]} {rest}"
    return tr(
        "{count:,} {what}: {names} [{change}]",
        count=count,
        what=translated(what),
        names=some_of([str(one) for one in notices]),
        change=translated(change),
    )


def some_of(names: Sequence[str], most: int = _EXAMPLES) -> str:
    """The first `most` of the names, and how many more there are."""
    if len(names) <= most + 1:  # the last one is as short as `and 1 more`
        return ", ".join(names)
    return tr("{names} and {count} more", names=", ".join(names[:most]), count=len(names) - most)


def drawn(limit: int, there: int) -> str:
    """What is said of references of which not all are used."""
    form = marked("{limit} of {there} references are used, drawn spread over them by a fixed seed (evaluation.max_references)")
    return translated(form, limit=limit, there=there)
