"""What a caption becomes when an image is seen: prefix, wildcards, order, what is dropped. The words are those of kohya's sd-scripts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_WILDCARD = re.compile(r"\{([^}]+)\}")
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
"""Stand for `{{` and `}}` meanwhile: characters that no text holds."""


@dataclass(frozen=True, slots=True)
class CaptionSettings:
    """How captions are seen; the names are those of the experiment's settings."""

    caption_prefix: str | None = None
    """Words before every caption, a space between."""
    caption_suffix: str | None = None
    caption_separator: str = ","
    """What parts a caption into its parts."""
    shuffle_caption: bool = False
    keep_tokens: int = 0
    """So many parts at the front stay where they are, and are never dropped."""
    keep_tokens_separator: str | None = None
    """What is before the first of these in a caption stays in place, and what is behind the second; then keep_tokens does not count."""
    secondary_separator: str | None = None
    """Keeps parts together as one; becomes caption_separator in the end."""
    enable_wildcard: bool = False
    """One line of several is drawn, and of `{a|b}` one; `{{` and `}}` are braces."""
    caption_dropout_rate: float = 0.0
    caption_dropout_every_n_epochs: int = 0
    """In every nth epoch all captions are empty; 0 is never."""
    caption_tag_dropout_rate: float = 0.0
    """Share of the parts, beside those that are kept, that are left out."""

    @property
    def is_drawn(self) -> bool:
        """Whether a caption that is not empty may be seen in more than one way."""
        return self.shuffle_caption or self.caption_tag_dropout_rate > 0 or self.enable_wildcard

    @property
    def is_fixed(self) -> bool:
        """Whether a caption is always seen as `plain_caption` has it."""
        return not (self.is_drawn or self.may_be_empty)

    @property
    def may_be_empty(self) -> bool:
        """Whether captions are seen empty at times."""
        return self.caption_dropout_rate > 0 or self.caption_dropout_every_n_epochs > 0


def seen_caption(caption: str, settings: CaptionSettings, generator: torch.Generator, *, epoch: int = 1) -> str:
    """The caption as it is trained on this time; the generator decides, in epochs counted from 1.

    In this order: dropped whole (classifier-free guidance learns from that, Ho & Salimans 2022, arXiv:2207.12598), a line and wildcards
    drawn, prefix and suffix, parts mixed, parts dropped.
    """
    import torch

    if settings.caption_dropout_rate > 0 and torch.rand((), generator=generator).item() < settings.caption_dropout_rate:
        return ""
    if settings.caption_dropout_every_n_epochs > 0 and epoch % settings.caption_dropout_every_n_epochs == 0:
        return ""
    caption = _worded(caption, settings, generator)
    if settings.shuffle_caption or settings.caption_tag_dropout_rate > 0 or _is_parted(caption, settings):
        first, mixed, last = _parts(caption, settings)
        if settings.shuffle_caption:
            mixed = [mixed[index] for index in torch.randperm(len(mixed), generator=generator).tolist()]
        if settings.caption_tag_dropout_rate > 0:
            drawn = torch.rand(len(mixed), generator=generator).tolist()
            mixed = [part for part, draw in zip(mixed, drawn, strict=True) if draw >= settings.caption_tag_dropout_rate]
        caption = ", ".join([*first, *mixed, *last])
    return _joined(caption, settings)


def plain_caption(caption: str, settings: CaptionSettings) -> str:
    """The caption where nothing is drawn, as validation and evaluation see it: first line, first words of wildcards, its own order."""
    caption = _worded(caption, settings, None)
    if _is_parted(caption, settings):
        first, mixed, last = _parts(caption, settings)
        caption = ", ".join([*first, *mixed, *last])
    return _joined(caption, settings)


def _worded(caption: str, settings: CaptionSettings, generator: torch.Generator | None) -> str:
    """A line with prefix and suffix, wildcards drawn; without a generator the first of each.

    The words go around the line that was drawn: sd-scripts puts them around all lines together, so that most lines go without.
    """

    def one_of(choices: list[str]) -> str:
        import torch

        if generator is None or len(choices) == 1:
            return choices[0]
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    if settings.enable_wildcard:
        caption = one_of(caption.split("\n"))
    if settings.caption_prefix:
        caption = f"{settings.caption_prefix} {caption}"
    if settings.caption_suffix:
        caption = f"{caption} {settings.caption_suffix}"
    if not settings.enable_wildcard:
        return caption
    caption = caption.replace("{{", _OPEN).replace("}}", _CLOSE)
    caption = _WILDCARD.sub(lambda found: one_of(found[1].split("|")), caption)
    return caption.replace(_OPEN, "{").replace(_CLOSE, "}")


def lines_of(text: str, *, each: bool, all_lines: bool) -> str:
    """What of a caption file is the caption: with `each` its lines, one of which is drawn later; else all of it, or its first line."""
    if each:
        return "\n".join(line.strip() for line in text.splitlines() if line.strip())
    return text if all_lines else text.strip().split("\n", 1)[0].strip()


def _is_parted(caption: str, settings: CaptionSettings) -> bool:
    return bool(settings.keep_tokens_separator) and settings.keep_tokens_separator in caption  # type: ignore[operator]


def _parts(caption: str, settings: CaptionSettings) -> tuple[list[str], list[str], list[str]]:
    """The parts that stay in front, those that may be mixed and dropped, and those that stay at the end."""
    separator = settings.caption_separator
    if _is_parted(caption, settings):
        pieces = caption.split(settings.keep_tokens_separator, 2)
        found = [[part.strip() for part in piece.split(separator) if part.strip()] for piece in pieces]
        return found[0], found[1], found[2] if len(found) > 2 else []
    parts = [part.strip() for part in caption.split(separator)]
    return parts[: settings.keep_tokens], parts[settings.keep_tokens :], []


def _joined(caption: str, settings: CaptionSettings) -> str:
    """The secondary separator is the usual one in the end."""
    return (
        caption.replace(settings.secondary_separator, settings.caption_separator) if settings.secondary_separator else caption
    )
