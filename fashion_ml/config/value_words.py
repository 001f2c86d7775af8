"""What pydantic says of a value that is not accepted, in the words of the catalogue: its own are English, and some are for programmers."""

from __future__ import annotations

from typing import Any

from fashion_ml.runtime.language import marked, tr, translated

_WORDS = {
    "bool_parsing": marked("Input should be a valid boolean, unable to interpret input"),
    "bool_type": marked("Input should be a valid boolean"),
    "dict_type": marked("Input should be names with values"),
    "finite_number": marked("Input should be a finite number"),
    "float_parsing": marked("Input should be a valid number, unable to parse string as a number"),
    "float_type": marked("Input should be a valid number"),
    "greater_than": marked("Input should be greater than {gt}"),
    "greater_than_equal": marked("Input should be greater than or equal to {ge}"),
    "int_from_float": marked("Input should be a valid integer, got a number with a fractional part"),
    "int_parsing": marked("Input should be a valid integer, unable to parse string as an integer"),
    "int_type": marked("Input should be a valid integer"),
    "less_than": marked("Input should be less than {lt}"),
    "less_than_equal": marked("Input should be less than or equal to {le}"),
    "list_type": marked("Input should be a list"),
    "literal_error": marked("Input should be {expected}"),
    "model_type": marked("Input should be names with values"),
    "multiple_of": marked("Input should be a multiple of {multiple_of}"),
    "string_pattern_mismatch": marked("Text should match pattern '{pattern}'"),
    "string_too_long": marked("Text should have at most {max_length} characters"),
    "string_too_short": marked("Text should have at least {min_length} characters"),
    "string_type": marked("Input should be text"),
    "too_long": marked("Input should have at most {max_length} entries, not {actual_length}"),
    "too_short": marked("Input should have at least {min_length} entries, not {actual_length}"),
    "tuple_type": marked("Input should be a list"),
}
"""For each type of pydantic's errors that a setting can have; what is in braces is in the error's context."""
_PATTERNS = {
    r"^[^/\\]+$": marked("Text should be a name without / and \\"),
    r"^\.[^/\\]+$": marked("Text should begin with a dot and have no / and \\ in it"),
    r"\{\}": marked("Text should have {braces} in it, where a domain's name goes"),
}
"""What the patterns of the settings ask for."""


def reason(item: Any) -> str:
    """Why one of pydantic's errors does not accept a value; in pydantic's own words where there are none for it here."""
    words, context = _WORDS.get(item["type"]), item.get("ctx", {})
    if item["type"] == "string_pattern_mismatch":
        words, context = _PATTERNS.get(context["pattern"], words), {**context, "braces": "{}"}
    if words is None:
        return str(item["msg"])
    if "expected" in context:  # 'a', 'b' or 'c'
        first, between, last = context["expected"].rpartition(" or ")
        context = {"expected": f"{first}{tr(' or ')}{last}" if between else last}
    return translated(words, **{name: f"{one:g}" if isinstance(one, float) else one for name, one in context.items()})
