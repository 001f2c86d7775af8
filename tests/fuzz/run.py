"""`make fuzz`: mutated inputs of every kind, for ten minutes at most.

`python -m tests.fuzz.run [--seed N] [--cases N] [--minutes N] [--only NAME]` says other numbers.

Each input is given to a process of its own (tests/fuzz/guard.py). A fault is kept with its files below `fuzz_faults/`, and the exit code is 1.
So it is where there was no time for 2,000 inputs, or for all of them where fewer are asked for.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

os.environ.update(
    OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", CUDA_VISIBLE_DEVICES=""
)
os.environ.update(TOKENIZERS_PARALLELISM="false")

from tests.fuzz.guard import Outcome, guarded
from tests.fuzz.subjects import Subject, subjects

FAULTS = Path("fuzz_faults")
_WORKERS, _LEAST = 2, 2000


def load_all() -> None:
    """Import what the subjects use, so that no forked process spends its time on it."""
    import importlib

    for name in (
        "mlflow", "mlflow.store.tracking.sqlalchemy_store", "alembic.command", "matplotlib.font_manager", "pandas",
        "transformers", "diffusers", "peft", "optuna", "open_clip", "safetensors.torch", "PIL.Image",
        "fashion_ml.cli", "fashion_ml.config", "fashion_ml.sweep.suite_study", "fashion_ml.data.masks", "fashion_ml.runs.resume",
        "fashion_ml.training.train_state", "fashion_ml.reports.training_report", "fashion_ml.evaluation.compare",
        "fashion_ml.deploy.inspect_file", "fashion_ml.models.lora_arithmetic", "fashion_ml.runs.data_summary",
        "fashion_ml.config.kohya.experiment", "fashion_ml.models.applied_lora", "fashion_ml.deploy.lora_files",
        "fashion_ml.runs.lora", "fashion_ml.runs.stargan", "fashion_ml.evaluation.pairing", "fashion_ml.tracking.spool",
    ):  # fmt: skip
        importlib.import_module(name)
    importlib.import_module("fashion_ml.runtime.label_font").runs("\ue000")  # asks the system for its fonts, once in a process
    from tests.fuzz.served import grey_app

    grey_app()


def tried(subject: Subject, number: int, place: Path) -> Outcome:
    """What becomes of one case; its folder is removed."""
    folder = place / f"{number:06d}"
    for name, content in subject.case(number).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    try:
        return guarded(subject.act, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def plan(cases: int, seed: int, only: str = "") -> list[tuple[Subject, int]]:
    """So many cases over all subjects, by their shares, in turns."""
    there = [one for one in subjects() if only in one.name]
    shares = sum(one.share for one in there)
    counts = [max(1, round(cases * one.share / shares)) for one in there]
    found = [(one, seed * 1_000_000 + number) for one, count in zip(there, counts, strict=True) for number in range(count)]
    return sorted(found, key=lambda case: case[1])


def _share(found: list[tuple[Subject, int]], worker: int, until: float, place: Path) -> Iterator[tuple[Subject, int, Outcome]]:
    for subject, number in found[worker::_WORKERS]:
        if time.monotonic() > until:
            return
        yield subject, number, tried(subject, number, place)


def _work(found: list[tuple[Subject, int]], worker: int, until: float, told: int) -> int:
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        for subject, number, outcome in _share(found, worker, until, Path(temporary)):
            counts[subject.name, outcome.kind] += 1
            if outcome.is_fault:
                kept = FAULTS / f"{subject.name.replace(' ', '_')}_{number}"
                for name, content in subject.case(number).items():
                    (kept / name).parent.mkdir(parents=True, exist_ok=True)
                    (kept / name).write_bytes(content)
                (kept / "outcome.txt").write_text(f"{outcome.kind}\n{outcome.text}\n", encoding="utf-8", errors="replace")
                sys.stdout.write(
                    f"FAULT {outcome.kind}: {subject.name} {number}: {(outcome.text.strip().splitlines() or [''])[-1][:200]}\n"
                )
    total, faults = sum(counts.values()), sum(count for (_, kind), count in counts.items() if kind not in ("taken", "refused"))
    for (name, kind), count in sorted(counts.items()):
        sys.stdout.write(f"{count:6d}  {kind:10s}{name}\n")
    sys.stdout.write(f"worker {worker}: {total} inputs, {faults} faults\n")
    sys.stdout.flush()
    os.write(told, f"{total}\n".encode())
    return 1 if faults else 0


def main() -> int:
    """Fuzz in two long-lived processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=2400)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    load_all()
    until, found = time.monotonic() + 60 * given.minutes, plan(given.cases, given.seed, given.only)
    children, (read, told) = [], os.pipe()
    for worker in range(_WORKERS):
        child = os.fork()
        if child == 0:
            code = 3
            try:
                code = _work(found, worker, until, told)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    os.close(told)
    with os.fdopen(read) as counts:
        done = sum(map(int, counts))
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return int(any(codes) or not _are_enough(done, len(found)))


def _are_enough(done: int, planned: int) -> bool:
    """Whether so many inputs were tried that the run says anything; said where they were not."""
    least = min(_LEAST, planned)
    if done < least:
        sys.stdout.write(f"TOO FEW: {done} of {planned} inputs were tried, {least} are the least; give --minutes more\n")
    return done >= least


if __name__ == "__main__":
    sys.exit(main())
