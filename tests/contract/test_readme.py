"""The two READMEs, and each page that there is in both languages, name the same commands, metrics and files; a README is one screen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents import PROJECT, shown

BOTH = [("README.md", "README.zh-TW.md")] + [
    (f"docs/{name}", f"docs/zh-TW/{name}")
    for name in sorted(
        path.relative_to(PROJECT / "docs" / "zh-TW").as_posix() for path in (PROJECT / "docs" / "zh-TW").rglob("*.md")
    )
]
MOST_LINES = 60
"""Of a README without its empty lines and the addresses at its end."""


def text(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def commands(name: str) -> list[str]:
    return [" ".join(command.words) for command in shown(PROJECT / name)]


def metrics(page: str) -> list[set[str]]:
    """The names in the first cell of every row."""
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    return [set(re.findall(r"`[^`]+`", cell)) for cell in rows]


def links(name: str) -> set[Path | str]:
    """What a page leads to: files, and the names of addresses; pages in the reader's own language count as the English ones."""
    found: set[Path | str] = set(re.findall(r"\]\[(\w+)\]", text(name)))
    for target in re.findall(r"\]\(([^)#]+)", text(name)):
        path = (PROJECT / name).parent.joinpath(target).resolve().relative_to(PROJECT)
        found.add(Path(*(part for part in path.parts if part != "zh-TW")))
    return {link for link in found if not str(link).startswith("README")}


@pytest.mark.parametrize(("english", "chinese"), BOTH)
def test_a_page_says_the_same_in_both_languages(english: str, chinese: str):
    assert commands(english) == commands(chinese)
    assert metrics(text(english)) == metrics(text(chinese))
    assert links(english) == links(chinese)
    assert [len(line.split("|")) for line in text(english).splitlines() if line.startswith("|")] == [
        len(line.split("|")) for line in text(chinese).splitlines() if line.startswith("|")
    ]


@pytest.mark.parametrize("chinese", [chinese for _, chinese in BOTH])
def test_a_chinese_page_leads_to_chinese_pages_where_there_are_such(chinese: str):
    """But to the English of its own page."""
    own = dict(BOTH)
    found = [(PROJECT / chinese).parent.joinpath(target).resolve() for target in re.findall(r"\]\(([^)#:]+)", text(chinese))]
    led = {path.relative_to(PROJECT).as_posix() for path in found if path.is_relative_to(PROJECT)}
    assert {page for page in led if page in own and own[page] != chinese} == set()


def test_the_metrics_and_all_commands_are_there_in_both_languages():
    assert len(metrics(text("docs/metrics.md"))) > 20
    assert len(commands("docs/commands.md")) > 25


@pytest.mark.parametrize("name", BOTH[0])
def test_a_readme_is_one_screen_with_a_picture_and_the_two_commands_first(name: str):
    lines = [line for line in text(name).splitlines() if line and not re.match(r"\[\w+\]: ", line)]
    assert len(lines) <= MOST_LINES
    assert [line.split("#")[0].strip() for line in lines if line.startswith("    ")] == ["make demo", "make test"]
    assert [line for line in lines[:10] if line.startswith("![")]


@pytest.mark.parametrize("name", BOTH[0])
def test_every_cell_of_the_comparison_leads_to_where_it_can_be_checked(name: str):
    rows = [line.strip("|").split("|") for line in text(name).splitlines() if line.startswith("| ")]
    assert len(rows) > 5
    addresses = dict(re.findall(r"^\[(\w+)\]: (\S+)$", text(name), re.MULTILINE))
    for row in rows:
        for cell in row[1:]:
            if cell.strip() and cell.strip() != "fashion_ml":
                assert re.search(r"\]\(\S+\)|\]\[\w+\]", cell), cell
    used = set(re.findall(r"\]\[(\w+)\]", text(name)))
    assert used == set(addresses)
    states = [address for address in addresses.values() if "/blob/" in address or "/tree/" in address]
    assert all(re.search(r"/(?:blob|tree)/[0-9a-f]{40}/", address) for address in states)  # a commit, which does not change


def test_what_make_test_leaves_out_runs_before_anything_lands():
    rules = dict(re.findall(r"^(test(?:-slow)?): .*\n\t\S+ -m pytest (.*)$", text("Makefile"), re.MULTILINE))
    assert rules == {"test": '-m "not slow"', "test-slow": "-m slow"}
    assert text(".ci/run").splitlines()[-2:] == ["make test", "make test-slow"]
