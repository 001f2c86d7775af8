"""`fashion-ml ui` ends with its terminal, whose end is SIGHUP, and by Ctrl-C; tests/runs ends it with its parent and by other signals."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import termios
from pathlib import Path

from tests.runs.test_ui import begin, check_ends


def test_it_ends_with_its_terminal_and_by_ctrl_c(tmp_path: Path, empty_store: Path):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    leader, terminal = pty.openpty()
    pages = {
        "terminal": begin(tmp_path, "terminal", stdin=terminal, start_new_session=True, preexec_fn=_take_terminal),
        "SIGINT": begin(tmp_path, "SIGINT"),
    }
    os.close(terminal)
    for one in pages.values():
        one.says("The page answers")
    check_ends(pages, lambda: os.close(leader))


def _take_terminal() -> None:
    """Makes standard input the terminal that this new session ends with."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
