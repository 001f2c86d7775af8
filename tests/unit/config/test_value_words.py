"""Why a value is not accepted: said in both languages, for every way in which a setting can be wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from string import Formatter
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_core import PydanticKnownError

from fashion_ml.config import LoraExperiment, StarganExperiment, SuiteSpec, SweepSpec
from fashion_ml.config.messages import problem
from fashion_ml.config.settings import settings_of
from fashion_ml.config.value_words import _WORDS, reason
from fashion_ml.runtime.language import speaking

BAD: tuple[Any, ...] = (
    *(None, "x", "", "x" * 5000, -1, 0, 1.5, 10**9, float("nan"), float("inf"), True, "1e400", b"x"),
    *([], {}, {"a": 1}, list(range(13)), ["x", "y"], [[]]),
)
PLAINER = {
    *("dict_type", "list_type", "tuple_type", "model_type", "string_type"),
    *("string_pattern_mismatch", "string_too_long", "string_too_short", "too_long", "too_short"),
}
"""Whose words are not pydantic's: nobody who writes YAML has tuples, dictionaries or instances."""
CONTEXT: dict[str, Any] = {
    "bool_parsing": {},
    "finite_number": {},
    "greater_than": {"gt": 3.0},
    "greater_than_equal": {"ge": 0.5},
    "less_than": {"lt": 3},
    "less_than_equal": {"le": 4096},
    "literal_error": {"expected": "'a', 'b' or 'c'"},
    "multiple_of": {"multiple_of": 75},
}


def wrong() -> Iterator[tuple[Any, type[Any]]]:
    """Every error of every setting of every file with each of the bad values."""
    for kind in (LoraExperiment, StarganExperiment, SuiteSpec, SweepSpec):
        for setting in settings_of(kind):
            *above, name = setting.path.split(".")
            for value in BAD:
                tree: Any = {name: value}
                for part in reversed(above):
                    tree = {part: tree}
                try:
                    kind.model_validate(tree)
                except ValidationError as error:
                    yield from ((item, kind) for item in error.errors())


def test_no_way_to_be_wrong_is_without_words_in_both_languages():
    found = list(wrong())
    own = {"extra_forbidden", "invalid_key", "missing", "value_error"}
    assert {item["type"] for item, _ in found} - own <= _WORDS.keys()
    assert len({item["type"] for item, _ in found} & _WORDS.keys()) > 15
    with speaking("zh-TW"):
        lines = {problem(item, kind) for item, kind in found if item["type"] in _WORDS}
    assert len(lines) > 500
    assert not [line for line in lines if "nput should" in line or "ext should" in line]
    assert not [line for line in lines if re.search(r"\{[a-z_]+\}|樣式", line)], "a place that is not filled, or a bare pattern"


@pytest.mark.parametrize("kind", sorted(_WORDS.keys() - PLAINER))
def test_the_english_words_are_pydantics(kind: str):
    context = CONTEXT.get(kind, {})
    assert reason({"type": kind, "ctx": context}) == PydanticKnownError(kind, context or None).message()  # type: ignore[arg-type]


def test_choices_are_joined_in_the_language():
    item = {"type": "literal_error", "ctx": {"expected": "'a', 'b' or 'c'"}}
    with speaking("zh-TW"):
        assert reason(item) == "應為 'a', 'b' 或 'c'"


def test_words_ask_for_what_pydantic_gives():
    gives = {"max_length", "min_length", "actual_length", "pattern", "gt", "ge", "lt", "le", "expected", "multiple_of"}
    assert {name for words in _WORDS.values() for _, name, _, _ in Formatter().parse(words) if name} == gives


def test_what_has_no_words_is_said_as_pydantic_says_it():
    assert reason({"type": "url_scheme", "msg": "URL scheme should be 'x'", "ctx": {}}) == "URL scheme should be 'x'"
