"""What logging costs: `python -m benchmarks.tracking [--points N] [--uri URI]`.

Metric points are logged through the spool as a training logs them, ten metrics a step. Printed are the time that a point costs the loop (median
and 99th percentile of a step, by ten), the time until everything is in the store, points a second end to end, and the process's memory
at the start, at its most, and the number of points that the store then has. The default store is a new sqlite file.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.results import Row, report

METRICS = 10


def main() -> None:
    """Log, wait, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--uri", default="")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["MLFLOW_TRACKING_URI"] = arguments.uri or f"sqlite:///{place}/mlflow.db"
        from fashion_ml.tracking.run import open_run

        with open_run("benchmark", {"kind": "benchmark"}, experiment="benchmarks") as run:
            run.spool_to(Path(place))
            before, began, costs = _memory(), time.perf_counter(), list[float]()
            for step in range(1, arguments.points // METRICS + 1):
                values = {f"metric_{number}": step / (number + 1) for number in range(METRICS)}
                start = time.perf_counter()
                run.log_metrics(values, step=step)
                costs.append(time.perf_counter() - start)
            logged = time.perf_counter() - began
            if not run.client.spool.flush(600):
                raise SystemExit("the store did not take everything")
            sent = time.perf_counter() - began
            most = _memory()
            stored = [len(run.client.get_metric_history(run.run_id, f"metric_{number}")) for number in range(METRICS)]
    ninety_nine = statistics.quantiles(costs, n=100)[98]
    in_loop = (
        f"{1e6 * statistics.median(costs) / METRICS:.1f} us in the loop (99th percentile {1e6 * ninety_nine / METRICS:.1f} us"
    )
    rows = [
        Row(f"a metric point of {arguments.points}", f"{in_loop}, the slowest step {1e3 * max(costs):.0f} ms)"),
        Row(
            "end to end",
            f"{arguments.points / sent:.0f} points/s; logged after {logged:.0f} s, {sum(stored)} stored after {sent:.0f} s",
        ),
        Row("memory of the process", f"{before:.0f} MiB at the start, {most:.0f} MiB at its most"),
    ]
    report(rows)


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
