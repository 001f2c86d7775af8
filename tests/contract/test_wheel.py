"""A wheel: what it holds, how large it is, and that an installation which is not editable works in an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[2]
MOST_BYTES = 24_000_000
DATA = (".yaml", ".json", ".jinja", ".safetensors", ".txt", ".typed", ".gz", ".md", ".html", ".css", ".js", ".po")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git knows of, and what it does not ignore: a build folder of the checkout would bring files that are gone."""
    copy = tmp_path_factory.mktemp("sources")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (PROJECT / name).is_file() and not name.startswith(("tests/", "benchmarks/", "docs/")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    (name,) = re.findall(
        r'^requires = \["(setuptools\S*)"\]$', (sources / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    wanted = Requirement(name)
    there = {one.version for one in distributions(name=wanted.name)}
    own = ["--no-build-isolation"] if any(wanted.specifier.filter(there)) else []  # else pip fetches one
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *own, "-w", str(folder), str(sources)], check=True
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`fashion-ml` of a venv with the wheel; the packages that it needs are those of this environment."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(venv / "bin" / "python"),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*pip, str(wheel)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return venv / "bin" / "fashion-ml"


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_a_wheel_is_below_24_megabytes(wheel: Path):
    assert wheel.stat().st_size < MOST_BYTES


def test_a_wheel_holds_every_file_of_the_package_and_the_folders_of_yaml_files(sources: Path, wheel: Path):
    package = {
        path.relative_to(sources).as_posix() for path in sources.glob("fashion_ml/**/*") if path.suffix in (".py", *DATA)
    }
    folders = {
        f"share/fashion-ml/{path.relative_to(sources).as_posix()}"
        for folder in ("experiments", "sweeps", "suites")
        for path in sources.glob(f"{folder}/**/*.yaml")
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name.partition(".data/data/")[2] or name for name in archive.namelist()}
    shipped = (
        "sweeps/lora_rank_lr",
        "suites/lora_rank",
        "experiments/lora/embedded",
        "experiments/lora/sd15_fashion",
        "experiments/lora/sd15_8gb",
        "experiments/lora/sdxl_fashion",
    )
    assert {f"share/fashion-ml/{name}.yaml" for name in shipped} <= folders
    assert {name for name in held if ".dist-info/" not in name} == package | folders


def test_a_wheel_says_who_what_and_where_it_works(wheel: Path):
    facts = metadata(wheel)
    classifiers = facts.get_all("Classifier") or []
    assert facts["Author"] == "fashion_ml authors"
    assert facts["License-Expression"] == "Apache-2.0"
    assert "Operating System :: POSIX :: Linux" in classifiers
    assert [f"Programming Language :: Python :: 3.{minor}" in classifiers for minor in range(9, 15)] == [
        False,
        *[True] * 4,
        False,
    ]
    changes = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {facts['Version']} (" in changes, "the changelog has no section for pyproject.toml's version"


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-py310.txt"])
def test_every_requirement_has_a_lower_bound_which_the_tested_versions_meet(wheel: Path, name: str):
    lines = (PROJECT / name).read_text(encoding="utf-8").splitlines()
    pins = {canonicalize_name(package): version for package, version in (line.split("==") for line in lines)}
    required = [Requirement(text) for text in metadata(wheel).get_all("Requires-Dist") or []]
    assert [str(one) for one in required if ">=" not in str(one.specifier)] == []
    tested = [one for one in required if canonicalize_name(one.name) in pins]
    assert {"torch", "torchvision", "mlflow", "optuna", "uv"} <= {one.name for one in tested}
    assert [str(one) for one in tested if not one.specifier.contains(pins[canonicalize_name(one.name)])] == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["sweep", "sweeps/lora_rank_lr.yaml", "--workers", "x"], 2, "--workers: 'x' is not accepted"),
        (["suite", "suites/lora_rank.yaml", "--launcher", "x"], 2, "--launcher: 'x' is not known"),
        (["train", "lora", "--config", "experiments/lora/embedded.yaml", "--rank", "0"], 2, "network.rank: '0'"),
        (["train", "stargan", "--w-ds", "much"], 2, "loss.w_ds: 'much'"),
    ],
    ids=["sweep", "suite", "train", "default experiment"],
)
def test_what_came_with_the_wheel_is_found_in_an_empty_folder(
    command: Path, tmp_path: Path, arguments: list[str], code: int, says: str
):
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([command, *arguments], cwd=tmp_path, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr
    share = str(command.parents[1] / "share" / "fashion-ml")
    assert [share in line for line in done.stderr.splitlines() if "came with fashion_ml" in line] == (
        [True] if any(word.endswith(".yaml") for word in arguments) else []
    )
    assert list(tmp_path.iterdir()) == []
