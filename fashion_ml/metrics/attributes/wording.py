"""A caption in words from the labels of zero-shot attributes, such as `a red dotted dress`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from fashion_ml.metrics.attributes import Category

NOUNS = ("garment_type", "kind")
"""Categories that say what it is; without one of them it is a garment."""
_ADJECTIVES = ("colour", "color", "pattern", "material")
"""Stand before the noun whatever their prompt."""
_NOTHING = {"pattern": "plain", "fit": "regular"}
"""Labels that are left out, for nobody would write them."""


def caption_of(labels: Mapping[str, str], categories: Sequence[Category]) -> str:
    """One phrase of the labels (category -> label), in the order of the categories; empty without labels that say anything.

    How a label is put follows from its category's prompt: `a {} garment` stands before the noun, `a garment with {}` behind it, and what
    has another form comes after a comma.
    """
    noun, before, behind, beside = "", list[str](), list[str](), list[str]()
    for category in categories:
        label = labels.get(category.name)
        if label is None or _NOTHING.get(category.name) == label:
            continue
        tail = re.fullmatch(r"an? garment (.*\{\}.*)", category.prompt)
        if category.name in NOUNS:
            noun = label
        elif category.name in _ADJECTIVES or re.fullmatch(r"an? \{\} \w+", category.prompt):
            before.append(label)
        elif tail:
            behind.append(tail[1].replace("{}", label))
        else:
            beside.append(label)
    if not (noun or before or behind or beside):
        return ""
    words = " ".join([*before, noun or "garment"])
    several = noun.endswith("s") and not noun.endswith("ss")  # trousers, shoes
    article = "" if several else "an " if words[0].lower() in "aeiou" else "a "
    return ", ".join([" ".join([article + words, *behind]), *beside])
