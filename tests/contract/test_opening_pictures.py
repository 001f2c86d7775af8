"""Pictures are opened in one place: there the formats are listed, so that Pillow starts no program for any file."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "fashion_ml"
_THE_PLACE = "data/pictures.py"
_OPENERS = {"imread", "read_image", "decode_image", "ImageFolder", "default_loader"}
"""Of matplotlib, torchvision, imageio and OpenCV."""


def opened_in(path: Path) -> list[str]:
    """The lines that open pictures with Pillow or another library."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), []
    from_elsewhere = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("fashion_ml")
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) == ("Image", "open") or node.attr in _OPENERS - {"ImageFolder"}:
                found.append(f"{path.relative_to(PACKAGE).as_posix()}: line {node.lineno}")
        elif isinstance(node, ast.Name) and node.id in _OPENERS & from_elsewhere:
            found.append(f"{path.relative_to(PACKAGE).as_posix()}: line {node.lineno}")
    return found


def test_pictures_are_opened_in_one_place_alone():
    lines = [line for path in sorted(PACKAGE.rglob("*.py")) for line in opened_in(path)]
    assert [line.partition(":")[0] for line in lines] == [_THE_PLACE], lines
