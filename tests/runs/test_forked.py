"""Processes that commands of the tests are forked into: all is imported before they begin, wherever the first of them does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs.forked import forked_run, processes

pytestmark = pytest.mark.slow

ASKED = (
    "import os, sys; os._exit(7 * ({'tests.runs.preloaded', 'torch', 'mlflow.tracking', 'diffusers'} <= sys.modules.keys()))"
)


def test_everything_is_imported_before_a_process_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A server of processes that cannot import what it is told to says nothing of it, and each process then imports it for itself."""
    monkeypatch.chdir(tmp_path)
    one = processes().Process(target=exec, args=(ASKED,))
    one.start()
    one.join(100)
    assert one.exitcode == 7


def ask_another() -> None:
    """In a process of its own: that of one which it begins."""
    one = processes().Process(target=exec, args=("import os; os._exit(os.getppid() % 251)",))
    one.start()
    one.join(100)
    os._exit(7 if one.exitcode == os.getppid() % 251 else 1)


def test_what_a_process_begins_comes_from_the_same_server():
    one = processes().Process(target=ask_another)
    one.start()
    one.join(100)
    assert one.exitcode == 7


def test_a_module_says_and_returns_what_it_does_in_a_process_of_its_own(tmp_path: Path):
    command = [sys.executable, "-m", "fashion_ml", "train", "lora", "--rank", "0"]
    forked, own = (run(command, capture_output=True, text=True, cwd=tmp_path) for run in (forked_run, subprocess.run))
    assert (forked.returncode, forked.stdout, forked.stderr) == (own.returncode, own.stdout, own.stderr)
    assert forked.returncode == 2
