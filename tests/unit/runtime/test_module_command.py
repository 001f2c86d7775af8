"""Processes of this package's own: of its own code, whatever lies in the folder that they are started in."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import fashion_ml
from fashion_ml.runtime.module_command import module_command

PACKAGE = Path(fashion_ml.__file__).parent


def test_modules_of_the_working_folder_are_taken_for_no_others(tmp_path: Path):
    """Also this package itself, and where nothing but the folder it was started in has told Python of it."""
    for name in ("random", "json", "typing", "site", "os", "runpy", "pathlib", "subprocess", "yaml", "fashion_ml"):
        (tmp_path / f"{name}.py").write_text("import sys; sys.exit('a module of the working folder')")
    command = module_command("fashion_ml.data.look_ahead", str(os.getpid()))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(command, input=b"", cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_every_process_of_the_package_is_started_so():
    there = [
        path for path in PACKAGE.rglob("*.py") if re.search(r'sys\.executable,\s*"-[mc]"', path.read_text(encoding="utf-8"))
    ]
    assert there == []
