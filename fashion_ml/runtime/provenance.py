"""Which code a run was made by: the commit of this package's checkout, and what was changed since."""

from __future__ import annotations

import platform
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fashion_ml.runtime.redact import without_credentials

_MOST_BYTES = 1 << 20


@cache
def git_commit() -> str | None:
    """The commit of the checkout this package runs from; None when it is no checkout, or lies in one of something else."""
    found = _git("rev-parse", "--show-toplevel", "HEAD")
    top, commit = found.split("\n")[:2] if found else ("", "")
    return commit if commit and Path(top).resolve() == _project() else None


@cache
def git_diff() -> str | None:
    """What differs from that commit, with the names of files that git does not know: empty where nothing does, None without a commit.

    Cut after a mebibyte, and it says so.
    """
    if git_commit() is None:
        return None
    changes, strangers = _git("diff", "HEAD"), _git("ls-files", "--others", "--exclude-standard")
    if changes is None or strangers is None:
        return None
    text = without_credentials(changes + "".join(f"# not in git: {name}\n" for name in strangers.splitlines()))
    return (
        text if len(text) <= _MOST_BYTES else f"{text[:_MOST_BYTES]}\n# cut here: {len(text) - _MOST_BYTES} characters more\n"
    )


def _project() -> Path:
    return Path(__file__).resolve().parents[2]


def _git(*arguments: str) -> str | None:
    with suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(_project()), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True, timeout=20)
        return done.stdout
    return None


PACKAGES = ("torch", "diffusers", "peft", "accelerate", "transformers", "mlflow", "open_clip_torch", "scikit-image", "numpy")


def installed_versions() -> dict[str, str]:
    """Version of Python and of each of the PACKAGES that is installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
