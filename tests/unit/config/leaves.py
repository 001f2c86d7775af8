"""Every single setting of an experiment by its dotted name, and what has to be said of each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from fashion_ml.config import Section


@dataclass(frozen=True)
class Setting:
    """A value that is not the default, and where it shows: `seen` of a training with it is another than of one without it."""

    value: Any
    seen: Callable[[Any], Any]
    needs: Mapping[str, Any] = field(default_factory=dict)
    """Settings, by dotted name, without which this one has nothing to decide; both trainings have them."""


def leaves(model: type[Section], prefix: str = "") -> list[str]:
    """Dotted names of all settings, those of lists and tables of sections as `objectives.*.metric`."""
    found: list[str] = []
    for name, info in model.model_fields.items():
        below = list(_sections(info.annotation))
        if not below:
            found.append(f"{prefix}{name}")
        for section, alone in below:
            found += leaves(section, f"{prefix}{name}." if alone else f"{prefix}{name}.*.")
    return found


def _sections(annotation: Any, alone: bool = True) -> Iterator[tuple[type[Section], bool]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation, alone
    for part in get_args(annotation):
        yield from _sections(part, alone=False)


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """A tree of settings from dotted names; `subsets.*.image_dir` is that of the only one."""
    tree: dict[str, Any] = {}
    for name, value in dotted.items():
        *sections, key = name.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    return _listed(tree)


def _listed(tree: dict[str, Any]) -> Any:
    """What is below `*` is the only one of a list."""
    plain = {key: _listed(value) if isinstance(value, dict) else value for key, value in tree.items()}
    return [plain["*"]] if set(plain) == {"*"} else plain


def repeated(values: Mapping[str, Any]) -> list[str]:
    """Settings whose number or text another one has too, so that a mix-up of the two would not show; switches have no choice."""
    first: dict[str, str] = {}
    found = []
    for leaf, value in values.items():
        if isinstance(value, bool) or value is None:
            continue
        other = first.setdefault(repr(float(value)) if isinstance(value, int | float) else repr(value), leaf)
        if other != leaf:
            found.append(f"{leaf} has the value of {other}")
    return found
