"""kill -9 and --resume where nothing is cached and gradients are accumulated; tests/runs/test_resume.py has the usual settings."""

from __future__ import annotations

from pathlib import Path

from tests.runs.test_resume import check_killed_and_resumed


def test_killed_three_times_and_resumed_is_as_if_never_stopped_without_caches(workdir: Path):
    check_killed_and_resumed(workdir, ["--cache_latents", "false", "--gradient_accumulation_steps", "3"])
