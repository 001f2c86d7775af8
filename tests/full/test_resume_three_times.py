"""kill -9 and --resume three times, with and without what is cached; tests/runs/test_resume.py does it once."""

from __future__ import annotations

from pathlib import Path

from tests.runs.test_resume import SHOWN, check_killed_and_resumed


def test_killed_three_times_and_resumed_is_as_if_never_stopped(workdir: Path):
    check_killed_and_resumed(workdir, SHOWN, kills=[4, 10, 18])


def test_killed_three_times_and_resumed_is_as_if_never_stopped_without_caches(workdir: Path):
    check_killed_and_resumed(workdir, ["--cache_latents", "false", "--gradient_accumulation_steps", "3"], kills=[4, 10, 18])
