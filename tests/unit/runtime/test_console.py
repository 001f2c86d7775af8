from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest

from fashion_ml.runtime.console import bar, say, show_lines, warn

LOGGER = logging.getLogger("fashion_ml")


@pytest.fixture
def clean() -> Iterator[None]:
    """The logger as a program finds it that only imports the package."""
    root = logging.getLogger()
    before = LOGGER.handlers, LOGGER.level, LOGGER.propagate, root.level
    LOGGER.handlers, LOGGER.propagate = [], True
    LOGGER.setLevel(logging.NOTSET)  # by setLevel, which forgets what was asked for before
    root.setLevel(logging.WARNING)
    yield
    LOGGER.handlers, LOGGER.propagate = before[0], before[2]
    LOGGER.setLevel(before[1])
    root.setLevel(before[3])


def test_a_program_that_imports_the_package_hears_only_what_its_own_logging_asks_for(
    clean: None, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    say("quiet")
    assert capsys.readouterr().err == ""
    with caplog.at_level("INFO", "fashion_ml"):
        say("asked [for]")
        warn("careful")
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [("INFO", "asked [for]"), ("WARNING", "careful")]


def test_the_command_line_shows_each_line_once_and_marks_warnings(clean: None, capsys: pytest.CaptureFixture[str]):
    show_lines()
    show_lines()
    root = logging.StreamHandler(sys.stderr)  # as a library may leave it
    logging.getLogger().addHandler(root)
    try:
        say("one [line]")
    finally:
        logging.getLogger().removeHandler(root)
    warn("the disk of \x1b[31ma is nearly full")
    with bar("work", 2) as progress:
        progress.advance(2, note="done")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["one [line]", "WARNING: the disk of \\x1b[31ma is nearly full"]
    assert len(lines) == 3
    assert lines[2].startswith("work: 2/2 done ")
