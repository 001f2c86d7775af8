"""A reader of our output that goes away ends nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import logging, sys, warnings
from pathlib import Path
from fashion_ml.runtime.console import say, show_lines, warn
from fashion_ml.runtime.lasting_output import outlive_readers
outlive_readers()
show_lines()
for number in range(2000):
    say(f"step {number}")
    sys.stdout.write("result\\n" * 20)
    warnings.warn(f"careful {number}")
warn("the last line")
Path(sys.argv[1]).write_text("all was done")
"""


def test_work_goes_on_when_the_reader_of_both_outputs_has_gone(tmp_path: Path):
    done = tmp_path / "done"
    code = f'"{sys.executable}" -c "$CODE" "{done}" 2>&1 | head -n 3; exit ${{PIPESTATUS[0]}}'
    ended = subprocess.run(
        ["bash", "-c", code], env={"CODE": CODE}, capture_output=True, text=True, check=False, cwd=Path.cwd()
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(ended.stdout.splitlines()) == 3
    assert done.read_text() == "all was done"


def test_a_reader_that_stays_gets_everything(tmp_path: Path):
    code = f'"{sys.executable}" -c "$CODE" "{tmp_path / "done"}" 2>&1 | grep -c step'
    ended = subprocess.run(
        ["bash", "-c", code], env={"CODE": CODE}, capture_output=True, text=True, check=False, cwd=Path.cwd()
    )
    assert ended.stdout.strip() == "2000"
