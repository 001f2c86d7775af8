"""Titles of a sweep's plots and pages: what the trials say, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fashion_ml.runtime.language import tr
from fashion_ml.sweep.plot_ticks import short_number

if TYPE_CHECKING:
    from fashion_ml.sweep.plots import Aim

MOST = 3
"""Settings of the best trial that a title names."""


def history_title(kept: Sequence[Any], all_: Sequence[Any], aim: Aim) -> str:
    """Of how the search went; `kept` are the trials that keep the constraints, among all of them."""
    if not kept:
        return tr("None of {count} trials keeps the constraints", count=len(all_))
    best = _best(kept, aim)
    return tr(
        "Best {metric} {of:.4g}, in trial {slot} of {count}",
        metric=aim.metric,
        of=aim.of(best),
        slot=best.user_attrs["slot"],
        count=len(all_),
    )


def importances_title(shares: Mapping[str, float], aim: Aim) -> str:
    """Of which settings matter, the largest share first."""
    name, share = max(shares.items(), key=lambda one: one[1])
    return tr(
        "{name} moves {metric} most: {share:.0%} of what tells the best trials", name=name, metric=aim.metric, share=share
    )


def slices_title(kept: Sequence[Any], aim: Aim) -> str:
    """Of each setting by itself: what the best trial has."""
    if not kept:
        return tr("Each setting by itself")
    has = [f"{name} {_value(value)}" for name, value in _best(kept, aim).params.items()]
    more = tr(" and {count} more", count=len(has) - MOST) if len(has) > MOST else ""
    return tr("The best trial has {names}{more}", names=", ".join(has[:MOST]), more=more)


def lines_title(kept: Sequence[Any]) -> str:
    """Of parallel coordinates, where so many trials keep the constraints."""
    return tr("Every trial; {part}", part=tr("the darkest line is the best") if kept else tr("each breaks a constraint"))


def front_title(best: int, kept: int) -> str:
    """Of what one objective costs of another."""
    if best == 1:
        return tr("{best} of {kept} trials is beaten by none in all objectives", best=best, kept=kept)
    return tr("{best} of {kept} trials are beaten by none in all objectives", best=best, kept=kept)


def _best(kept: Sequence[Any], aim: Aim) -> Any:
    return min(kept, key=aim.of) if aim.lower else max(kept, key=aim.of)


def _value(value: Any) -> str:
    return short_number(value) if isinstance(value, float) else str(value)
