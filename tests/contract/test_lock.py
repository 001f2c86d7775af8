"""The constraints are a lock: every package that an installation brings has its exact version there, within what pyproject.toml asks for."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = Path(__file__).parents[2]
FILE = "constraints.txt" if sys.version_info >= (3, 11) else "constraints-py310.txt"
_NOT_INSTALLED = {"bitsandbytes", "cmaes"}
"""Of the extras gpu and sweeps, which no test installs."""


def pins(name: str) -> dict[str, str]:
    lines = (PROJECT / name).read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(package): version for package, version in (line.split("==") for line in lines)}


@pytest.mark.parametrize(("name", "python"), [("constraints.txt", "3.11"), ("constraints-py310.txt", "3.10")])
def test_all_that_pyproject_asks_for_is_pinned_within_its_bounds(name: str, python: str):
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(one for group in project["optional-dependencies"].values() for one in group)]
    there, wrong = pins(name), []
    for one in map(Requirement, asked):
        pinned = there.get(canonicalize_name(one.name))
        if one.name in _NOT_INSTALLED or (one.marker and not one.marker.evaluate({"python_version": python})):
            continue
        if pinned is None or not one.specifier.contains(pinned):
            wrong.append(f"{one}: {pinned}")
    assert wrong == []


def test_all_that_comes_with_them_is_pinned_too():
    there, seen, unpinned = pins(FILE), set[str](), set[str]()
    waiting = [("fashion-ml", "test"), ("fashion-ml", "")]
    while waiting:
        name, extra = waiting.pop()
        if f"{name}[{extra}]" in seen:
            continue
        seen.add(f"{name}[{extra}]")
        try:
            required = distribution(name).requires or []
        except PackageNotFoundError:  # of another platform
            continue
        if name != "fashion-ml" and canonicalize_name(name) not in there:
            unpinned.add(name)
        for one in map(Requirement, required):
            if one.marker is None or one.marker.evaluate({"extra": extra}):
                waiting += [(one.name, wanted) for wanted in ("", *one.extras)]
    assert len(seen) > 60
    assert unpinned - {"pip", "setuptools", "wheel"} == set()
