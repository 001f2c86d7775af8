"""The site of the docs, without building it: every page has its place, and every link of a document leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from tests.documents import DOCUMENTS, PROJECT

DOCS = PROJECT / "docs"


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, which names a Python function."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, tag, node: None)
SITE: dict[str, Any] = yaml.load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=_Loader)


def pages(nav: Any) -> Iterator[str]:
    """The pages of a navigation, in its order."""
    if isinstance(nav, str):
        yield nav
    else:
        for inner in nav.values() if isinstance(nav, dict) else nav:
            yield from pages(inner)


def prose(document: Path) -> str:
    """Without what is code."""
    text = re.sub(r"^( *)```.*?^\1```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^    .*$", "", text, flags=re.MULTILINE))


def anchors(document: Path) -> set[str]:
    """Of its headings, as GitHub and the site make them; of those with one name that of the first."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def broken(document: Path) -> list[str]:
    """Links and images that lead nowhere; inside docs/ also those that the site does not have."""
    problems = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = unquote(target).partition("#")
        there = document.parent.joinpath(path).resolve() if path else document
        if not there.is_file():
            problems.append(f"{target}: no such file")
        elif document.is_relative_to(DOCS) and not there.is_relative_to(DOCS):
            problems.append(f"{target}: is not on the site; write its name without a link")
        elif anchor and anchor not in anchors(there):
            problems.append(f"{target}: no such heading")
    return problems


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_link_of_a_document_leads_somewhere(document: Path):
    assert broken(document) == []


@pytest.mark.parametrize("document", sorted(DOCS.rglob("*.md")), ids=lambda path: str(path.relative_to(DOCS)))
def test_a_list_begins_after_an_empty_line(document: Path):
    """Else the site shows it as running text, which GitHub does not."""
    lines = prose(document).splitlines()
    item = re.compile(r"(?:[-*]|\d+\.) ")
    assert [
        line
        for before, line in pairwise(lines)
        if item.match(line) and before and not before.startswith((" ", "- ")) and not item.match(before)
    ] == []


def test_every_page_has_its_place_in_the_navigation_once():
    listed = list(pages(SITE["nav"]))
    assert len(listed) > 20
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def test_every_picture_of_the_docs_is_shown_somewhere():
    shown = {
        document.parent.joinpath(target).resolve()
        for document in DOCUMENTS
        for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    }
    assert set((DOCS / "images").rglob("*.*")) <= shown


def test_the_site_fetches_nothing_and_its_build_takes_no_warning():
    assert SITE["strict"] is True
    assert SITE["theme"]["font"] is False
    assert not {"extra_javascript", "extra_css"} & set(SITE)


def test_a_link_that_leads_nowhere_is_noticed(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A title\n\n[a](page.md#a-title) [b](none.md) [c](#none) `[d](none.md)`\n\n    [e](none.md)\n", encoding="utf-8"
    )
    assert broken(page) == ["none.md: no such file", "#none: no such heading"]
