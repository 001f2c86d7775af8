"""Does one domain win everything? What images are recognised as, whatever they were made for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_SHARE, _TARGETS = 0.9, 0.75
"""Of the images are recognised as one domain, of which no more were made for it."""


@dataclass(frozen=True)
class Winner:
    """A domain as which nearly all images are recognised."""

    domain: str
    share: float
    guided: str
    """`reference` or `latent`: by what these images were guided."""


def winner(read: Sequence[int], targets: Sequence[int], domains: Sequence[str], guided: str) -> Winner | None:
    """The domain as which at least 90 % of the images are recognised though at most 75 % were made for it; None without one.

    `read` and `targets` are each image's domain by its number, as recognised and as wanted.
    """
    if not read:
        return None
    number, count = Counter(read).most_common(1)[0]
    wanted = sum(1 for target in targets if target == number) / len(targets)
    share = count / len(read)
    return Winner(domains[number], share, guided) if share >= _SHARE and wanted <= _TARGETS else None
