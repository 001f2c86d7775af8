"""The faults of tests/mutants follow the code: one that no longer applies would notice nothing; each says what notices it."""

from __future__ import annotations

import subprocess
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PATCHES = sorted((PROJECT / "tests" / "mutants" / "patches").glob("*.patch"))


def test_every_fault_still_applies_to_the_code():
    assert len(PATCHES) >= 60
    wrong = []
    for patch in PATCHES:
        done = subprocess.run(["git", "apply", "--check", str(patch)], cwd=PROJECT, capture_output=True, text=True, check=False)
        wrong += [f"{patch.name}: {done.stderr.strip()}"] if done.returncode else []
    assert not wrong, "\n".join(wrong)


def test_every_fault_says_what_it_is_and_which_tests_notice_it():
    wrong = []
    for patch in PATCHES:
        first, *rest = patch.read_text(encoding="utf-8").splitlines()
        killers = [line.removeprefix("killed by:").split() for line in rest if line.startswith("killed by:")]
        if not first.strip() or first.startswith(("diff ", "---", "killed by:")):
            wrong.append(f"{patch.name}: its first line says no fault: {first}")
        if not killers or not all(killers):
            wrong.append(f"{patch.name}: no line 'killed by: tests/…'")
        wrong += [
            f"{patch.name}: {word} is not there"
            for killer in killers
            for word in killer
            if word.startswith("tests/") and not (PROJECT / word.partition("::")[0]).exists()
        ]
    assert not wrong, "\n".join(wrong)
