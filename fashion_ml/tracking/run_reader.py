"""The runs that a page of results is made of: read once in pages, afterwards only what has changed.

MLflow gives runs whole, with every param, metric and tag: a training is about 350 rows of a database and 7 ms. A store of 1,000 trainings
therefore cannot be read while somebody waits for a page, and is not: pages of runs come newest first, and what is there is shown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.process_id import is_gone
from fashion_ml.runtime.redact import first_line
from fashion_ml.tracking.known_runs import PARENT_TAG
from fashion_ml.tracking.run import PROCESS_TAG, note_of
from fashion_ml.tracking.store import shown_uri, store_uri
from fashion_ml.tracking.store_checks import asked

QUERIES = (
    *(f"tags.kind = '{kind}'" for kind in ("suite", "sweep", "comparison")),
    "tags.kind LIKE 'train_%'",
    "tags.kind = 'evaluation' and tags.source = 'file'",
    "tags.kind = 'evaluation' and tags.algorithm = 'images'",
)
"""What the page shows, in this order; an evaluation of a training is shown with the training, which has its numbers."""
_SHOWN = ("suite", "sweep", "comparison", "evaluation")
_PAGE = 200
_AGAIN_SECONDS, _WHOLE_SECONDS = 2.0, 600.0
"""How old an answer may be, and after how long everything is read again, in the background: a deleted run is noticed only then."""
_FEW = 100
"""So many runs are read again each time: it takes less than a second."""
_MARGIN_MS = 120_000
"""A training has its evaluation's numbers a moment after the evaluation has ended."""


@dataclass(frozen=True)
class RunRow:
    """What is kept of a run."""

    run_id: str
    experiment_id: str
    name: str
    status: str
    """RUNNING, FINISHED, FAILED, KILLED; of a RUNNING one whose process is gone, KILLED."""
    started: int
    """Milliseconds since 1970."""
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    note: str
    """The description that MLflow shows."""
    ended: int = 0
    """As `started`; 0 while it runs."""

    @property
    def kind(self) -> str:
        """Its tag `kind`."""
        return self.tags.get("kind", "")

    @property
    def parent(self) -> str:
        """The id of the run above it; empty without one."""
        return self.tags.get(PARENT_TAG, "")


def row_of(run: Any, metrics: Callable[[str], bool], params: Iterable[str]) -> RunRow:
    """The row of an MLflow run, with those of its metrics and params that are wanted."""
    info, data = run.info, run.data
    tags = {key: value for key, value in data.tags.items() if not key.startswith("mlflow.") or key == PARENT_TAG}
    dead = info.status == "RUNNING" and is_gone(tags.get(PROCESS_TAG, "")) is True
    return RunRow(
        info.run_id,
        info.experiment_id,
        info.run_name or info.run_id[:8],
        "KILLED" if dead else info.status,
        info.start_time or 0,
        tags,
        {key: value for key, value in data.metrics.items() if metrics(key)},
        {key: data.params[key] for key in params if key in data.params},
        note_of(run),
        info.end_time or 0,
    )


class RunReader:
    """Reads a store in a thread of its own and keeps rows."""

    def __init__(self, client: Any, make: Callable[[Any], RunRow]):
        self._client, self._make = client, make
        self._rows: dict[str, RunRow] = {}
        self._lock, self._asking = threading.Lock(), threading.Lock()
        self._whole = threading.Event()
        self._thread: threading.Thread | None = None
        self._begun = self._since = self._read_at = self._whole_at = 0.0
        self.names: Mapping[str, str] = {}
        """Of every active experiment by its id, the one that was changed last first."""
        self.problem = ""
        """Why the last reading broke off; empty when it did not."""

    def start(self) -> None:
        """Begin to read everything, in the background."""
        if self._thread is None or not self._thread.is_alive():
            self._begun = time.monotonic()
            self._thread = threading.Thread(target=self._read_whole, daemon=True, name="run_reader")
            self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether everything has been read once, after at most so long."""
        return self._whole.wait(seconds)

    def rows(self) -> tuple[list[RunRow], bool]:
        """What is known now, and whether that is everything there is."""
        with self._asking:
            if not self._whole.is_set() and self.problem and time.monotonic() - self._begun > _AGAIN_SECONDS:
                self.start()  # the store was away, and may be there now
            elif self._whole.is_set() and time.monotonic() - self._read_at > _AGAIN_SECONDS:
                self._again()
        with self._lock:
            return list(self._rows.values()), self._whole.is_set()

    def _experiments(self) -> Sequence[str]:
        found = self._client.search_experiments(order_by=["last_update_time DESC"])
        self.names = {one.experiment_id: one.name for one in found}
        return list(self.names)

    def _read_whole(self) -> None:
        begun, seen = time.time(), set[str]()
        try:
            ids = self._experiments()
            for query in QUERIES if ids else ():
                for page in self._pages(ids, query):
                    self._put(page)
                    seen |= {run.info.run_id for run in page}
        except Exception as error:  # the store is away: what was read stays, and the page says so
            self.problem = first_line(error)[:300]
            return
        with self._lock:
            for run_id in set(self._rows) - seen:
                del self._rows[run_id]
        self.problem, self._since = "", begun
        self._read_at = self._whole_at = time.monotonic()
        self._whole.set()

    def _pages(self, ids: Sequence[str], query: str) -> Iterator[Sequence[Any]]:
        token: str | None = ""
        while token is not None:
            page = self._client.search_runs(
                ids, query, max_results=_PAGE, order_by=["attributes.start_time DESC"], page_token=token or None
            )
            yield page
            token = page.token or None

    def _put(self, runs: Iterable[Any]) -> None:
        made = {run.info.run_id: self._make(run) for run in runs if _is_shown(run)}
        with self._lock:
            self._rows |= made

    def _again(self) -> None:
        """What began or ended lately, and what was running; the trainings above evaluations that did."""
        with self._lock:
            known = dict(self._rows)
        if len(known) <= _FEW:
            self._read_whole()
            return
        if time.monotonic() - self._whole_at > _WHOLE_SECONDS:
            self.start()
        begun, since = time.time(), int(self._since * 1000) - _MARGIN_MS
        try:
            ids, above = self._experiments(), set[str]()
            for moment in ("start_time", "end_time"):
                for page in self._pages(ids, f"attributes.{moment} > {since}"):
                    self._put(page)
                    above |= {parent for run in page if (parent := run.data.tags.get(PARENT_TAG, "")) in known}
            self._look_at(ids, sorted(above | {row.run_id for row in known.values() if row.status == "RUNNING"}))
        except Exception as error:
            self.problem = first_line(error)[:300]
            return
        self.problem, self._since, self._read_at = "", begun, time.monotonic()

    def _look_at(self, ids: Sequence[str], run_ids: Sequence[str]) -> None:
        for first in range(0, len(run_ids), _PAGE):
            wanted = run_ids[first : first + _PAGE]
            names = ", ".join(f"'{one}'" for one in wanted)
            found = [run for page in self._pages(ids, f"attributes.run_id IN ({names})") for run in page]
            self._put(found)
            with self._lock:
                for gone in set(wanted) - {run.info.run_id for run in found}:
                    self._rows.pop(gone, None)


def newest_rows(client: Any, experiment: str, most: int, make: Callable[[Any], RunRow]) -> tuple[list[RunRow], bool]:
    """The newest runs that the page shows, at most so many, of one experiment by its name or of all, and whether there are older ones.

    InputError where the store has no experiment of that name.
    """
    with asked(store_uri()):
        found = {one.experiment_id: one.name for one in client.search_experiments()}
        ids = [one for one, name in found.items() if not experiment or name == experiment]
        if experiment and not ids:
            raise InputError(
                tr(
                    "--experiment: {experiment!r} is not in {shown_uri}; it has {names}",
                    experiment=experiment,
                    shown_uri=shown_uri(store_uri()),
                    names=", ".join(sorted(found.values())[:5]),
                )
            )
        runs = dict[str, Any]()
        for query in QUERIES if ids else ():
            order = ["attributes.start_time DESC"]
            runs |= {run.info.run_id: run for run in client.search_runs(ids, query, max_results=most + 1, order_by=order)}
    shown = sorted((run for run in runs.values() if _is_shown(run)), key=lambda run: -(run.info.start_time or 0))
    return [make(run) for run in shown[:most]], len(shown) > most


def _is_shown(run: Any) -> bool:
    tags = run.data.tags
    kind = tags.get("kind", "")
    if kind == "evaluation":
        return PARENT_TAG not in tags
    return kind in _SHOWN or kind.startswith("train_")
