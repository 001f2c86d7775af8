"""What a spool says of its runs: the last value of each metric, every point, and little memory for it."""

from __future__ import annotations

import tracemalloc
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fashion_ml.tracking.known_runs import KnownRuns

POINTS = st.lists(st.tuples(st.integers(-3, 6), st.floats(-9, 9), st.integers(0, 9)), min_size=1, max_size=30)


def batch(*points: tuple[str, Any, int, int]) -> dict[str, Any]:
    return {"do": "batch", "run": "r", "metrics": [list(point) for point in points]}


@given(points=POINTS)
def test_the_last_step_and_the_later_of_two_points_of_a_step_count(points: list[tuple[int, float, int]]):
    known = KnownRuns([batch(("m", value, time, step)) for step, value, time in points], {})
    plain = {step: (value, time) for step, value, time in points}
    assert known["r"].metrics["m"].by_step() == plain
    step = max(plain)
    assert known["r"].metrics["m"].last == (*plain[step], step)
    assert known["r"].as_run().data.metrics == {"m": plain[step][0]}


def test_a_number_that_no_store_takes_is_left_out_and_the_others_stay():
    given = [
        batch(("m", 1, 5, 1), ("m", 2, 5, 2**70), ("m", 10**400, 5, 3), ("m", 4.0, -(2**70), 4)),
        batch(("n", 1, 5, 2**70)),
    ]
    known = KnownRuns(given, {})
    assert known["r"].metrics["m"].by_step() == {1: (1.0, 5)}
    assert list(known["r"].metrics) == ["m"]


def test_a_hundred_thousand_points_are_known_in_five_megabytes():
    def logged() -> Any:
        for step in range(10_000):
            yield batch(*((f"m{number}", step / 7, 1_700_000_000_000 + step, step) for number in range(10)))

    tracemalloc.start()
    known = KnownRuns(logged(), {})
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(known["r"].metrics["m3"].by_step()) == 10_000
    assert size < 5_000_000
