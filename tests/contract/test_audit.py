"""`make audit` says what it found, or in one line that it could not ask; a stand-in for pip-audit answers as pip-audit 2.9 does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("does", "code", "says"),
    [
        ('echo "No known vulnerabilities found" >&2; : >"$out"', 0, "No known faults of what constraints.txt and"),
        ('echo "torch 1.0 CVE-1" >"$out"; exit 1', 1, "constraints.txt:\ntorch 1.0 CVE-1\n"),
        (
            'echo "ERROR: not found on PyPI" >&2; exit 1',
            2,
            "audit: constraints.txt was not looked at (ERROR: not found on PyPI)",
        ),
    ],
)
def test_it_says_what_it_found_or_that_it_could_not_ask(tmp_path: Path, does: str, code: int, says: str):
    (tmp_path / "bin").mkdir()
    stand_in = tmp_path / "bin" / "pip-audit"
    read = 'case "$*" in *--strict*) ;; *) exit 9 ;; esac\nwhile [ $# -gt 0 ]; do [ "$1" = --output ] && out=$2; shift; done\n'
    stand_in.write_text(f"#!/bin/sh\n{read}{does}\n")
    stand_in.chmod(0o755)
    done = subprocess.run([".ci/audit", str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert (done.stdout or done.stderr).startswith(says)
    assert code != 2 or len((done.stdout + done.stderr).splitlines()) == 1


def test_what_cannot_be_installed_is_one_line(tmp_path: Path):
    done = subprocess.run(
        [".ci/audit", str(tmp_path / "new")],
        cwd=PROJECT,
        env={"PATH": "/usr/bin:/bin", "PYTHON": "/bin/false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "audit: pip-audit cannot be installed; it needs a network that reaches the package index\n"
