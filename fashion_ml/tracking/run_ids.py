"""Which run is meant by what a person gives: an id, the beginning of one, a run's name, or `latest`."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr
from fashion_ml.tracking.sender import PENDING
from fashion_ml.tracking.store import find_run, shown_uri, store_uri
from fashion_ml.tracking.store_checks import asked

LATEST = "latest"
_ID, _PREFIX = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{4,31}")
_MOST_LISTED = 5
_TRAININGS = ("train_lora", "train_stargan")


def find_meant(client: Any, given: str, field: str = "run_id", kinds: Collection[str] = _TRAININGS) -> Any:
    """The MLflow run that is meant; `latest` is the newest finished one of the `kinds` (tag `kind`), and a name means those first.

    InputError when there is none, and with the candidates when there are several.
    """
    if _ID.fullmatch(given) or PENDING.fullmatch(given) or not given:
        return find_run(client, given, field)
    if given == LATEST:
        return _said(given, _latest(client, kinds, field))
    found = _search(client, f"attributes.run_id LIKE '{given}%'") if _PREFIX.fullmatch(given) else []
    if not found and "'" not in given and '"' not in given:
        found = _search(client, f"attributes.run_name = '{given}'")
        found = [run for run in found if run.data.tags.get("kind") in kinds] or found
    if not found:
        return find_run(client, given, field, tr("give an id, its first digits (4 or more), a run's name, or latest"))
    if len(found) > 1:
        listed = "; ".join(map(_told, found[:_MOST_LISTED]))
        more = tr("; {count} more", count=len(found) - _MOST_LISTED) if len(found) > _MOST_LISTED else ""
        raise InputError(
            tr(
                "{field}: {given!r} may be {count} runs in {shown_uri}: {listed}{more}; give more of the id",
                field=field,
                given=given,
                count=len(found),
                shown_uri=shown_uri(store_uri()),
                listed=listed,
                more=more,
            )
        )
    return _said(given, found[0])


def _latest(client: Any, kinds: Collection[str], field: str) -> Any:
    found = [run for kind in kinds for run in _search(client, f"tags.kind = '{kind}' and attributes.status = 'FINISHED'", 1)]
    if not found:
        what = tr(" or ").join(kinds)
        raise InputError(
            tr(
                "{field}: latest: {shown_uri} has no finished run of the kind {what}; give an id",
                field=field,
                shown_uri=shown_uri(store_uri()),
                what=what,
            )
        )
    return max(found, key=lambda run: run.info.start_time)


def _search(client: Any, query: str, most: int = 100) -> list[Any]:
    """Runs of every experiment, newest first."""
    with asked(store_uri()):
        there = [one.experiment_id for one in client.search_experiments(max_results=1000)]
        order = ["attributes.start_time DESC"]
        return list(client.search_runs(there, query, max_results=most, order_by=order)) if there else []


def _told(run: Any) -> str:
    return f"{run.info.run_id} ({run.info.run_name}, {run.data.tags.get('kind') or tr('of no kind')})"


def _said(given: str, run: Any) -> Any:
    """The run, after saying which it is."""
    say(tr("{given} is run {told}", given=given, told=_told(run)))
    return run
