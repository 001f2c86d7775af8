"""How long a user waits: `python -m benchmarks.startup [--times N]`.

`--help`, and from `fashion-ml train lora` on the embedded base to its first logged step: in a new folder, and in one that has a tracking
store and the collection; medians. Its evaluation is on, as by default; the training is stopped at its first step.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import Row, report

_COMMAND = [sys.executable, "-m", "fashion_ml"]


def seconds_of_help() -> float:
    """Wall time of `fashion-ml --help`."""
    start = time.perf_counter()
    subprocess.run([*_COMMAND, "--help"], check=True, capture_output=True)
    return time.perf_counter() - start


def seconds_to_first_step(folder: Path, number: int) -> float:
    """Wall time from the command to the first step in its spool."""
    command = [*_COMMAND, "train", "lora", "--log_every", "1", "--output-dir", f"out{number}"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    spool = folder / f"out{number}" / "spool" / "operations.jsonl"
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (spool.is_file() and b"total_loss" in spool.read_bytes()):
        if process.poll() is not None:
            raise SystemExit("the training ended before its first step")
        time.sleep(0.02)
    found = time.perf_counter() - start
    process.terminate()
    process.wait()
    return found


def _shown(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"


def main() -> None:
    """Report both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    new, again = list[float](), list[float]()
    for number in range(times):
        with tempfile.TemporaryDirectory() as name:
            new.append(seconds_to_first_step(Path(name), number))
            again.append(seconds_to_first_step(Path(name), number + 1))
    shown = statistics.median(seconds_of_help() for _ in range(times))
    report(
        [
            Row("fashion-ml --help", f"{shown:.2f} s"),
            Row("fashion-ml train lora to its first step, embedded base", _shown(again)),
            Row("the same in a new folder, where the collection and the store are made first", _shown(new)),
        ]
    )


if __name__ == "__main__":
    main()
