"""What must be equal between a command that was killed and one that never was: bits, points, statuses, artifacts, files; and how it differs."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from safetensors.torch import load_file, save

from tests.runs.forked import still_running
from tests.runs.run_tree import PARENT, leaves, tree

STORE, UPLOADING = "mlflow.db", ".artifact.uploading.*"
_END_SECONDS, _FULL, _ERROR = 5, "No space left", "error"
Facts = dict[str, Any]


def facts(work: Path, outputs: Sequence[str]) -> Facts:
    """Everything that must be equal, of a working folder and the folders in it that a command writes."""
    found: Facts = {}
    for name in outputs:
        folder = work / name
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
        found[f"files of {name}"] = sorted({_without_times(file) for file in files if "spool" not in Path(file).parts[:-1]})
        for path in sorted((*folder.rglob("*.safetensors"), *folder.rglob("*.pt"))):
            found[f"bits of {name}/{_without_times(str(path.relative_to(folder)))}"] = _bits(path)
        for path in folder.glob("training_logs/training_loss_log.txt"):
            found["loss log"] = re.sub(r"\d{4}-\d{2}-\d{2}.\d{2}:\d{2}:\d{2}\S*", "", path.read_text())
        note = folder / "run.json"
        if note.is_file():
            found[f"finished {name}"] = json.loads(note.read_text())["finished"]
    return found | _of_store(work)


def has_open_runs(work: Path) -> bool:
    """Whether the store still calls a run running."""
    with closing(sqlite3.connect(work / STORE)) as store:
        return bool(store.execute("select 1 from runs where status = 'RUNNING' and lifecycle_stage = 'active'").fetchone())


def left_over(work: Path, temporary: Path) -> list[str]:
    """Temporary files, ours and those that MLflow begins to upload, locks that nobody holds, what lies in the `temporary` folder, and
    processes that have not ended within a few seconds."""
    found = [str(path.relative_to(work)) for name in (".*.tmp", ".lock", UPLOADING) for path in sorted(work.rglob(name))]
    found += [f"{path.name} in the temporary folder" for path in sorted(temporary.iterdir())]
    until = time.monotonic() + _END_SECONDS
    while running := still_running():
        if time.monotonic() > until:
            return [*found, f"processes {running}"]
        time.sleep(0.05)
    return found


def differences(whole: Facts, now: Facts) -> Iterator[tuple[str, str]]:
    """What differs: `lost`, `doubled` or `unequal`, and a line that says it."""
    for key in sorted(whole.keys() | now.keys()):
        first, second = whole.get(key), now.get(key)
        if first == second:
            continue
        if first is None or second is None:
            yield ("lost" if second is None else "doubled"), f"{key}: {first} and {second}"[:400]
        elif isinstance(first, list) and isinstance(second, list):
            before, after = (Counter(map(repr, some)) for some in (first, second))
            lost, more = list(before - after), list(after - before)
            if not lost and not more:
                continue  # NaN, which is no more equal to itself
            kind = "unequal" if lost and more else "lost" if lost else "doubled"
            yield kind, f"{key}: lost {lost}, more {more}"[:400]
        else:
            yield "unequal", f"{key}: {first} and {second}"[:400]


def _of_store(work: Path) -> Facts:
    """The runs: whole ones as trees; of others only that they are ended and empty. That a disk was full stays noted, as it should."""
    copy, found = work.parent / f"compared{time.monotonic_ns()}.db", dict[str, Any]()  # a name that MLflow has no connection to
    shutil.copy(work / STORE, copy)
    client, history = MlflowClient(f"sqlite:///{copy}"), _history(copy)
    there = [one.experiment_id for one in client.search_experiments()]
    roots = [run for run in client.search_runs(there) if PARENT not in run.data.tags]
    whole = [run for run in roots if run.info.status == "FINISHED"]
    found["whole runs"] = [""] * len(whole)
    found["runs that are neither whole nor empty"] = [
        (run.info.status, sorted(run.data.metrics))
        for run in roots
        if run not in whole and (run.info.status not in ("KILLED", "FAILED") or run.data.metrics or run.data.params)
    ]
    for number, run in enumerate(sorted(whole, key=lambda one: one.info.start_time)):
        for name, key, value in leaves(tree(client, run.info.run_id, history)):
            if not (key.endswith(f"resumed.{_ERROR}") and _FULL in str(value)):
                found[f"run {number}, {name}, {key}"] = value
    copy.unlink()
    return found


def _history(store: Path) -> Callable[[str, str], list[tuple[int, float]]]:
    """All points at once: MLflow would be asked for each metric of each run, which takes longer than all else that is compared."""
    found = defaultdict[tuple[str, str], list[tuple[int, float]]](list)
    with closing(sqlite3.connect(store)) as opened:
        for run_id, key, step, value, is_nan in opened.execute("select run_uuid, key, step, value, is_nan from metrics"):
            found[run_id, key].append((step, math.nan if is_nan else value))
    return lambda run_id, key: found[run_id, key]


def _without_times(name: str) -> str:
    name = re.sub(r"_\d{8}_\d{6}", "", name)
    return re.sub(r"tfevents\S*", "tfevents", name)


def _bits(path: Path) -> str:
    """Of the tensors: a state's header tells seconds."""
    content = save(load_file(path)) if path.suffix == ".safetensors" else path.read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]
