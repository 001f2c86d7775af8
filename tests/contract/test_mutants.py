"""The faults of tests/mutants follow the code: one that no longer applies would notice nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_every_fault_still_applies_to_the_code():
    patches = sorted((PROJECT / "tests" / "mutants" / "patches").glob("*.patch"))
    assert len(patches) >= 60
    wrong = []
    for patch in patches:
        done = subprocess.run(["git", "apply", "--check", str(patch)], cwd=PROJECT, capture_output=True, text=True, check=False)
        wrong += [f"{patch.name}: {done.stderr.strip()}"] if done.returncode else []
    assert not wrong, "\n".join(wrong)
