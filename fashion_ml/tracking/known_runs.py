"""What a spool's operations say of its runs, in the form in which a store would say it: what an offline run asks instead of one."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fashion_ml.tracking.spool import Operation

PARENT_TAG = "mlflow.parentRunId"


class Points:
    """The points of one metric in 24 bytes each, for a training may log millions."""

    def __init__(self) -> None:
        self._steps, self._times, self._values, self._last = array("q"), array("q"), array("d"), -1

    def add(self, step: int, value: float, time: int) -> None:
        """Add a point. OverflowError for numbers of more than 64 bits, which no store takes: nothing is added then."""
        new = array("q", (step, time)), array("d", (value,))
        self._steps.append(new[0][0])
        self._times.append(new[0][1])
        self._values.append(new[1][0])
        if self._last < 0 or step >= self._steps[self._last]:
            self._last = len(self._steps) - 1

    @property
    def last(self) -> tuple[float, int, int]:
        """Value, time in milliseconds and step of the point of the last step, the later one where there are two."""
        return self._values[self._last], self._times[self._last], self._steps[self._last]

    def by_step(self) -> dict[int, tuple[float, int]]:
        """Value and time in milliseconds of each step; the later ones where there are two."""
        return dict(zip(self._steps, zip(self._values, self._times, strict=True), strict=True))


@dataclass
class KnownRun:
    """One run, as its operations so far have left it."""

    run_id: str
    made_here: bool = False
    """Whether its making is among the operations."""
    name: str = ""
    status: str = ""
    start: int = 0
    end: int | None = None
    deleted: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Points] = field(default_factory=dict)
    """By key."""
    pictures: list[str] = field(default_factory=list)
    """File names below `images/`."""

    def as_run(self) -> Any:
        """The MLflow entity."""
        from mlflow.entities import Metric, Param, Run, RunData, RunInfo, RunTag

        stage = "deleted" if self.deleted else "active"
        info = RunInfo(self.run_id, "", "", self.status, self.start, self.end, stage, run_name=self.name)
        return Run(
            info,
            RunData(
                [Metric(key, *points.last) for key, points in self.metrics.items()],
                [Param(*pair) for pair in self.params.items()],
                [RunTag(*pair) for pair in self.tags.items()],
            ),
        )


class KnownRuns:
    """The runs of a spool; `names` are the store's ids of those that were sent, which mean the same runs."""

    def __init__(self, operations: Iterable[Operation], names: dict[str, str]):
        self._own = {real: pending for pending, real in names.items()}
        self.runs: dict[str, KnownRun] = {}
        for operation in operations:
            self.take(operation)

    def __getitem__(self, run_id: str) -> KnownRun:
        own = self._own.get(run_id, run_id)
        return self.runs.setdefault(own, KnownRun(own))

    def __contains__(self, run_id: str) -> bool:
        return self._own.get(run_id, run_id) in self.runs

    def below(self, run_id: str) -> list[KnownRun]:
        """The runs below a run, newest first, without deleted ones."""
        own = self._own.get(run_id, run_id)
        found = [
            run for run in self.runs.values() if self._own.get(run.tags.get(PARENT_TAG, ""), run.tags.get(PARENT_TAG)) == own
        ]
        return [run for run in reversed(found) if not run.deleted]

    def take(self, operation: Operation) -> None:
        """Go on by one operation."""
        run = self[operation["run"]]
        match operation["do"]:
            case "create":
                run.made_here, run.name, run.start, run.status = True, operation["name"], operation["start"], "RUNNING"
                run.tags |= operation["tags"]
            case "batch":
                run.tags |= dict(operation.get("tags", ()))
                run.params |= dict(operation.get("params", ()))
                for key, value, time, step in operation.get("metrics", ()):
                    points = run.metrics.get(key) or Points()
                    with suppress(OverflowError):
                        points.add(step, value, time)
                        run.metrics[key] = points
            case "file" if operation["folder"] == "images":
                run.pictures.append(operation["path"].rpartition("/")[2])
            case "folder" if operation["folder"] == "images":
                run.pictures += operation.get("names", ())
            case "begin":
                run.status, run.end = "RUNNING", None
            case "end":
                run.status, run.end = operation["status"], operation["end"]
            case "untag":
                run.tags.pop(operation["key"], None)
            case "delete":
                run.deleted = True
