"""Pictures of a StarGAN's evaluation: contents, what they were guided by, and what came out, with every target domain among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from PIL import Image

from fashion_ml.evaluation.artifacts import Figure
from fashion_ml.evaluation.figures import comparison_grid, save_picture
from fashion_ml.evaluation.words import word
from fashion_ml.runtime.language import tr

Row = tuple[tuple[int, int], int, tuple[int, int]]
"""Content (domain, index), target domain, reference (domain, index)."""
REFERENCE, LATENT = "reference", "latent"
"""By what the style is guided."""
_CELL, _MOST = 112, 24


def domain_grid(
    pictures: Mapping[str, Sequence[Image.Image]],
    who: str,
    rows: Sequence[Row],
    domains: Sequence[str],
    *,
    references: Sequence[Image.Image] | None = None,
    title: str = "",
    per_domain: int = 2,
) -> Image.Image:
    """A row for each of some contents: the content, then itself in every domain; with `references` a row below it of what it was guided by."""
    by_content: dict[tuple[int, int], list[int]] = {}
    for index, (content, _, _) in enumerate(rows):
        by_content.setdefault(content, []).append(index)
    shown: dict[int, int] = {}
    lines: list[tuple[str, list[Image.Image]]] = []
    for (y, _), indices in by_content.items():
        if shown.setdefault(y, 0) < per_domain:
            shown[y] += 1
            first = pictures["content"][indices[0]]
            lines.append(
                (
                    tr("content from {domains}, and the results", domains=domains[y]),
                    [first, *(pictures[who][i] for i in indices)],
                )
            )
            if references is not None:
                blank = Image.new("RGB", first.size, "white")
                lines.append((tr("the references of these results"), [blank, *(references[i] for i in indices)]))
    return comparison_grid(lines, heads_of(domains), columns=1, cell=_CELL, title=title)


def grid_figures(
    pictures: Mapping[str, Sequence[Image.Image]], rows: Sequence[Row], domains: Sequence[str], *, title: str
) -> list[Figure]:
    """Both grids of an evaluation under what was found; `pictures` are `content`, `target` (the references), `reference` and `latent`."""
    guides = {REFERENCE: pictures["target"], LATENT: None}
    grids = {who: domain_grid(pictures, who, rows, domains, title=title, references=one) for who, one in guides.items()}
    return [
        Figure(tr("Domain by domain, by {who}", who=word(who)), f"grid_{who}.png", partial(save_picture, picture=grid))
        for who, grid in grids.items()
    ]


def heads_of(domains: Sequence[str]) -> list[str]:
    """Over the columns of such a grid."""
    return [word("content"), *(tr("as {name}", name=name) for name in domains)]


def every_target(rows: Sequence[Row], measured: Sequence[int], domains: int) -> list[int]:
    """Places in `measured`, at most 24 or one for each domain, of translations from each domain to each other one: all targets before any of
    them comes again, and of a domain another content for each target."""
    found: list[int] = []
    for shift in range(1, domains):
        for source in range(domains):
            target = (source + shift) % domains
            there = [place for place, i in enumerate(measured) if rows[i][0][0] == source and rows[i][1] == target]
            if there:
                found.append(there[(shift - 1) % len(there)])
    return found[: max(_MOST, domains)]
