"""The settings of one folder of training images among several: kohya's `[[datasets.subsets]]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fashion_ml.config.base import Section, Share, Text


class Subset(Section):
    """One folder with images directly in it, seen in its own way; what is not given is as in `data`."""

    image_dir: Text
    """The folder; its name means nothing, and folders inside are not looked into."""
    class_tokens: Text | None = None
    """The caption of images without a caption file."""
    num_repeats: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How often each image is seen in one epoch."""
    is_reg: bool = False
    """Images of the class in general, for prior preservation."""
    caption_extension: Annotated[str, Field(pattern=r"^\.[^/\\]+$")] | None = None
    """Ending of its caption files."""
    caption_lines: Literal["first", "all"] | None = None
    """What of a caption file of several lines is the caption."""
    caption_prefix: Text | None = None
    """Words before every caption of it."""
    caption_suffix: Text | None = None
    """Words behind every caption of it."""
    caption_separator: Text | None = None
    """What parts its captions into their parts."""
    shuffle_caption: bool | None = None
    """Mix the parts of its captions."""
    keep_tokens: Annotated[int, Field(ge=0)] | None = None
    """So many parts at the front stay where they are."""
    keep_tokens_separator: Text | None = None
    """Parts before this mark stay in place."""
    secondary_separator: Text | None = None
    """Between parts that are mixed and dropped as one."""
    enable_wildcard: bool | None = None
    """Draw one of `{a|b}`, and one line of several."""
    caption_dropout_rate: Share | None = None
    """Share of its images that are seen with an empty caption."""
    caption_dropout_every_n_epochs: Annotated[int, Field(ge=0)] | None = None
    """In every nth epoch its captions are empty."""
    caption_tag_dropout_rate: Share | None = None
    """Share of its captions' parts that are left out each time."""
    flip_aug: bool | None = None
    """Mirror half of its images."""
