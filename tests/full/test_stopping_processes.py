"""Ctrl-C, SIGTERM and a full disk in processes of their own, as a shell has them; tests/runs/test_stopping.py has them in the test's."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.runs.test_stopping import TOO_LARGE, TRAIN, check_failed, check_stopped, has_rows

COMMAND = [sys.executable, "-m", "fashion_ml", *TRAIN]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_stopped_process_ends_with_its_log_and_weights_kept(workdir: Path, number: signal.Signals):
    process = subprocess.Popen(COMMAND, cwd=workdir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not has_rows(workdir):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    check_stopped(workdir, process.returncode, errors)


def test_a_file_that_does_not_fit_on_the_disk_fails_the_process_in_one_line(workdir: Path):
    command = ["bash", "-c", 'trap "" XFSZ; ulimit -f 3000; exec "$@"', "bash", *COMMAND, *TOO_LARGE]
    done = subprocess.run(command, cwd=workdir, capture_output=True, text=True, check=False, timeout=200)
    check_failed(workdir, done.returncode, done.stderr)
