"""tests/full holds the store for a minute."""

from __future__ import annotations

from pathlib import Path

from tests.runs.locked_store import check_locked


def test_a_store_that_another_writer_holds_costs_a_training_nothing(workdir: Path):
    check_locked(workdir, seconds=7)
