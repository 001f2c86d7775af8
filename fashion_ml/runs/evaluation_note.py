"""Which run the evaluation in a folder is, what it measures and whether it has ended: one that is killed goes on by it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import parsed
from fashion_ml.runtime.weight_files import read_header

if TYPE_CHECKING:
    from fashion_ml.tracking.run import TrackedRun

NOTE = "evaluation_run.json"
Ends = list[Callable[[], None]]
"""What notes that evaluations have ended, for a command that has more to do than each of them."""


@dataclass(frozen=True)
class EvaluationNote:
    """The note of an evaluation with this fingerprint and this key, of everything that decides what is measured."""

    folder: Path
    fingerprint: str
    """Empty where it is known only when all is measured."""
    key: str

    def write(self, run_id: str, *, finished: bool) -> None:
        """Note the run, and whether it has ended."""
        facts = {"run_id": run_id, "fingerprint": self.fingerprint, "key": self.key, "finished": finished}
        write_text(self.folder / NOTE, json.dumps(facts) + "\n")

    def finish(self, run_id: str, ends: Ends | None = None) -> None:
        """Note that the run has ended: now, or with `ends` once whoever holds them has done the rest. Killed before, it is gone on with."""
        if ends is None:
            self.write(run_id, finished=True)
        else:
            ends.append(partial(self.write, run_id, finished=True))

    def to_go_on_with(self, client: Any = None, *, ended: bool = False) -> str:
        """The id of the run of the same evaluation that did not end in the folder, or with `ended` that did; empty without one.

        `client` is that of an offline run; the configured store's otherwise.
        """
        from fashion_ml.tracking.store import find_run, open_tracking

        try:
            note = parsed(read_whole(self.folder / NOTE))
            same = (note["fingerprint"], note["key"]) == (self.fingerprint, self.key) and (ended or note["finished"] is False)
            run_id = str(note["run_id"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        if not same:
            return ""
        try:
            return run_id if find_run(client or open_tracking(), run_id).info.lifecycle_stage == "active" else ""
        except InputError:  # it was made in another store
            return ""


def abandoned(training: TrackedRun, tags: Mapping[str, str]) -> str:
    """The id of a run below a training that was made for an evaluation with these tags, by a process that was killed before it logged
    anything; empty without one."""
    from fashion_ml.runtime.process_id import is_gone
    from fashion_ml.tracking.run import PROCESS_TAG, runs_below
    from fashion_ml.tracking.sender import is_temporary

    try:
        for run in runs_below(training):
            known, begun = run.data.tags, run.data.params or run.data.metrics
            if (
                run.info.status == "RUNNING"
                and not begun
                and tags.items() <= known.items()
                and is_gone(known.get(PROCESS_TAG, ""))
            ):
                return str(run.info.run_id)
    except Exception as error:
        if not (training.spooled and is_temporary(error)):
            raise
    return ""


def key_of(weights: Path, *told: str) -> str:
    """A key, 64 hex digits, of a .safetensors file of weights and of everything else that decides what an evaluation measures.

    safetensors writes what the file says of itself in an order of its own each time: written again by a training that goes on, the file has
    other bytes.
    """
    from fashion_ml.models.kohya_format import model_hash

    header = read_header(weights, "checkpoint")
    own = json.dumps([header.shapes, header.metadata], sort_keys=True)
    parts = [model_hash(weights.read_bytes()), own, *told]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
