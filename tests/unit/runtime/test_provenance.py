"""Which code a run was made by: commit, changes, strangers; nothing where it is not known."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fashion_ml.runtime import provenance


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(provenance, "_project", lambda: tmp_path.resolve())
    provenance.git_commit.cache_clear()
    provenance.git_diff.cache_clear()
    yield tmp_path
    provenance.git_commit.cache_clear()
    provenance.git_diff.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder: Path) -> str:
    git(folder, "init", "--quiet")
    (folder / "loss.py").write_text("one = 1\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "one")
    return git(folder, "rev-parse", "HEAD")


def test_a_clean_checkout_has_a_commit_and_an_empty_diff(project: Path):
    made = commit(project)
    assert provenance.git_commit() == made
    assert provenance.git_diff() == ""


def test_changes_and_unknown_files_are_told_without_passwords(project: Path):
    commit(project)
    (project / "loss.py").write_text("one = 'http://me:secret@host/'\n")
    (project / "new.py").write_text("two = 2\n")
    diff = provenance.git_diff()
    assert diff is not None
    assert "-one = 1" in diff
    assert "+one = 'http://host/'" in diff
    assert "# not in git: new.py" in diff


def test_a_password_of_the_environment_is_in_no_diff(project: Path, monkeypatch: pytest.MonkeyPatch):
    commit(project)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "open-sesame")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:close-sesame@host")
    (project / "loss.py").write_text("one = 'open-sesame'; two = 'close-sesame'\n")
    diff = provenance.git_diff()
    assert diff is not None
    assert "+one = '[secret]'; two = '[secret]'" in diff


def test_without_a_checkout_and_inside_another_one_nothing_is_claimed(project: Path, monkeypatch: pytest.MonkeyPatch):
    assert (provenance.git_commit(), provenance.git_diff()) == (None, None)
    provenance.git_commit.cache_clear()
    provenance.git_diff.cache_clear()
    commit(project)
    (project / "inside").mkdir()
    monkeypatch.setattr(provenance, "_project", lambda: (project / "inside").resolve())
    assert (provenance.git_commit(), provenance.git_diff()) == (None, None)


def test_an_endless_diff_is_cut_and_says_so(project: Path):
    commit(project)
    (project / "loss.py").write_text("x" * (3 << 20))
    diff = provenance.git_diff()
    assert diff is not None
    assert len(diff) < (1 << 20) + 100
    assert "# cut here:" in diff
