"""Families of bases are known in one place: what docs/new_base.md says of those that name one elsewhere."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fashion_ml.models.families import known
from fashion_ml.models.families.family import Family
from fashion_ml.models.families.known import FAMILIES

PACKAGE = Path(__file__).parents[2] / "fashion_ml"
WHERE = {
    "cli/kohya_options.py": "the option of sd-scripts' two programs",
    "config/kohya": "sd-scripts has two programs",
    "models/embedding_file.py": "files that others wrote",
    "models/families": "the families",
    "models/lora_forms.py": "files that others wrote",
    "models/single_file.py": "CLIP's tokenizer, with either of two paddings",
    "runs/data_summary.py": "CLIP's tokenizer",
}


def test_a_family_is_named_where_the_document_says_and_nowhere_else():
    words = {word for family in FAMILIES for word in (family.name, family.short, family.title, family.pipeline)} | {"text_time"}
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        constants = {
            node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)
        }
        if not words.isdisjoint({one for one in constants if isinstance(one, str)}):
            name = path.relative_to(PACKAGE).as_posix()
            found.add(next((place for place in WHERE if name.startswith(place)), name))
    assert found == WHERE.keys()


def test_a_family_that_is_added_last_is_asked_before_the_first_which_takes_all(monkeypatch: pytest.MonkeyPatch):
    """As docs/new_base.md says it is written."""

    class Mine(Family):
        name = "mine"

        def has(self, unet: Mapping[str, Any]) -> bool:
            return bool(unet["cross_attention_dim"] == 4096)

    monkeypatch.setattr(known, "FAMILIES", (*FAMILIES, Mine()))
    assert [known.by_config({"cross_attention_dim": width}).name for width in (4096, 768, 1024)] == ["mine", "sd1", "sd2"]


def test_no_two_families_claim_a_file_or_a_width():
    shapes = {family.name: {family.file_key: (320, family.width)} for family in FAMILIES}
    for family in FAMILIES:
        assert [one.name for one in FAMILIES if one.in_file(shapes[family.name])] == [family.name]
    assert len({family.width for family in FAMILIES}) == len(FAMILIES)
