"""kill -9 and --resume of a StarGAN, twice in a longer training; tests/runs/test_train_stargan.py does it once."""

from __future__ import annotations

from pathlib import Path

from tests.runs.test_train_stargan import check_killed_and_resumed, encode


def test_killed_twice_and_resumed_is_as_if_never_stopped(workdir: Path):
    encode(workdir)
    check_killed_and_resumed(workdir, epochs=40, kills=[3, 17])
