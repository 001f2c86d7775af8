"""The tracking server is gone for a whole minute in the middle of a training."""

from __future__ import annotations

from pathlib import Path

from fashion_ml.runtime.console import say
from tests.runs.tracking_server import Server, check_outage


def test_a_minute_without_the_server_costs_no_time_and_no_point(server: Server, tmp_path: Path):
    longest = check_outage(server, tmp_path, seconds=60, steps=1000)
    say(f"longest time between two steps: {longest:.2f} s")
    assert longest < 1.0
