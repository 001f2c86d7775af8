"""Another writer holds the sqlite store for a whole minute, which is longer than a training waits at its end."""

from __future__ import annotations

from pathlib import Path

from tests.runs.locked_store import check_locked


def test_a_store_that_is_held_for_a_minute_costs_a_training_nothing(workdir: Path):
    check_locked(workdir, seconds=60)
