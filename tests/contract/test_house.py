"""What keeps the house in order: files of a size that can be read, and nothing loose at the package's root."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 60
FILES = sorted(path for folder in ("fashion_ml", "tests", "benchmarks") for path in (PROJECT / folder).rglob("*.py"))


def test_only_the_package_itself_its_main_and_its_errors_lie_at_the_root():
    assert {path.name for path in (PROJECT / "fashion_ml").glob("*.py")} == {"__init__.py", "__main__.py", "errors.py"}


def test_no_file_and_no_function_is_longer_than_a_reader_can_hold():
    assert len(FILES) > 200
    long = []
    for path in FILES:
        text, name = path.read_text(encoding="utf-8"), path.relative_to(PROJECT)
        if len(text.splitlines()) > MOST_LINES:
            long.append(f"{name}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    long.append(f"{name}: {node.name} has {lines} lines")
    assert long == []


@pytest.mark.parametrize("name", ["utils.py", "common.py", "helpers.py"])
def test_no_file_is_for_whatever_fits_nowhere(name: str):
    assert not [path for path in FILES if path.name == name]
