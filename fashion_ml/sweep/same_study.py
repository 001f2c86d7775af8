"""Whether a study that is there was begun with what it is gone on with: other settings make other trials, a newer version alone does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fashion_ml.config import flat
from fashion_ml.config.settings import defaults_of
from fashion_ml.runs.settled_precision import AUTO, PATHS, precision_here
from fashion_ml.runtime.language import tr
from fashion_ml.sweep.plan import Plan

_LONGEST = 120
"""Characters of a part that a message shows."""


def noted(plan: Plan) -> str:
    """What all trials of a plan share, as JSON: parts of its file, and every setting of its experiments."""
    return json.dumps(
        {"parts": dict(plan.parts), "experiments": {name: _settings(one) for name, one in plan.experiments.items()}}
    )


def difference(plan: Plan, before: str) -> str:
    """The first thing in which a plan differs from what was noted of its study, both values; empty where it goes on with it.

    A setting that the version which began the study did not have may be there with its default, and one that there is no more may be gone;
    a precision may be auto where the other is what auto is on this machine.
    """
    was, now = json.loads(before), json.loads(noted(plan))
    for name in [*now["parts"], *was["parts"]]:
        if was["parts"].get(name) != now["parts"].get(name):
            return tr(
                "{name} was {shown} and is {shown_2}",
                name=name,
                shown=_shown(was["parts"].get(name)),
                shown_2=_shown(now["parts"].get(name)),
            )
    if list(was["experiments"]) != list(now["experiments"]):
        return tr(
            "recipes were {names} and are {names_2}", names=", ".join(was["experiments"]), names_2=", ".join(now["experiments"])
        )
    for name, experiment in plan.experiments.items():
        if told := _setting(was["experiments"][name], now["experiments"][name], type(experiment)):
            return f"{name}: {told}" if name else told
    return ""


def kind_of(before: str) -> str:
    """`sweep` or `suite`, of what was noted of a study."""
    return "sweep" if "search_space" in json.loads(before)["parts"] else "suite"


def _shown(part: Any) -> str:
    text = json.dumps(part, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _settings(experiment: Any) -> dict[str, str]:
    """Every setting by its path, `None` for those that are not given: a version that has no such setting notes none."""
    given = flat(experiment)
    return {path: str(given.get(path)) for path in (*defaults_of(type(experiment)), *given)}


def _setting(was: Mapping[str, str], now: Mapping[str, str], kind: type[Any]) -> str:
    defaults = defaults_of(kind)
    for path in dict.fromkeys((*now, *was)):
        before, after = was.get(path), now.get(path)
        new = before is None and path in defaults and after == str(defaults[path])
        gone = after is None and not any(f"{path}.".startswith(f"{known}.") for known in defaults)
        if before != after and not new and not gone and not _same_here(path, before, after, kind):
            return tr(
                "{path} was {value} and is {value_2}",
                path=path,
                value=before or tr("not given"),
                value_2=after or tr("not given"),
            )
    return ""


def _same_here(path: str, before: str | None, after: str | None, kind: type[Any]) -> bool:
    """Whether two precisions, of which one is auto, are one on this machine."""
    if path not in PATHS or AUTO not in (before, after) or before is None or after is None:
        return False
    return precision_here(path, before, kind) == precision_here(path, after, kind)
