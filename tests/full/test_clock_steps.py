"""The clock on the wall is set the other way than in tests/runs, in the middle of a training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs.test_clock_steps import HOUR, check_clock


@pytest.mark.parametrize(("trainer", "seconds"), [("lora", -HOUR), ("stargan", HOUR)])
def test_points_and_durations_stay_as_they_are(workdir: Path, trainer: str, seconds: int):
    check_clock(workdir, trainer, seconds)
