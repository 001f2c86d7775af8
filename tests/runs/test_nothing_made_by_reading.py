"""What only reads makes no store: in a folder without one it says so, and leaves the folder as it was."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from fashion_ml.cli import app
from tests.runs.command import fashion_ml

NO_RUN = "0" * 32


REFUSED = [
    "runs",
    "show latest",
    f"show {NO_RUN}",
    f"inspect {NO_RUN}",
    f"evaluate run {NO_RUN}",
    f"evaluate choose {NO_RUN}",
    "evaluate lora none.safetensors",
    f"compare {NO_RUN} latest",
    f"evaluate compare {NO_RUN} latest",
    f"export {NO_RUN} out.safetensors",
    f"register {NO_RUN} --name x",
    f"reproduce {NO_RUN}",
    f"sync {NO_RUN}",
    "data none",
    "data none --references",
    "serve models:/x@champion",
    "serve models:/x/1",
    "ui",
    "sweep-report none.yaml",
    "suite-report none.yaml",
    "sweep-worker none.yaml",
    "suite-worker none.yaml",
    "caption none",
    "split none out",
    "merge none.safetensors nor.safetensors --output out.safetensors",
    "resize none.safetensors --rank 1 --output out.safetensors",
    "extract none nor --output out.safetensors",
    "import none.toml",
    "encode none out",
]
"""What reads something that is not there."""
TAKEN = ["doctor", "doctor --close-runs", "sync", "ui --sweeps"]
"""What has an answer for a folder in which nothing was done yet."""
MAKERS = {"demo", "sweep", "suite", "prior", "embedded collection", "train lora", "train stargan", "evaluate images"}
"""What makes runs, or draws, and so may make a store when all that it was given is right."""


def all_commands(group: Any, before: str = "") -> Iterator[str]:
    """The names of all commands, those of groups behind the group's."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from all_commands(command, f"{before}{name} ")
        else:
            yield before + name


def test_every_command_reads_or_makes():
    named = set(all_commands(typer.main.get_command(app)))
    read = {name for name in named if any(f"{line} ".startswith(f"{name} ") for line in [*REFUSED, *TAKEN])}
    assert named - read - MAKERS == set()
    assert read & MAKERS == set()


@pytest.mark.parametrize("command", [*REFUSED, *TAKEN])
def test_a_command_that_reads_makes_no_store(tmp_path: Path, command: str):
    here = tmp_path / "empty"
    here.mkdir()
    done = fashion_ml(*command.split(), cwd=here, uri=f"sqlite:///{here / 'mlflow.db'}")
    assert done.returncode == (0 if command in TAKEN else 2), done.stdout + done.stderr
    assert not os.listdir(here)  # noqa: PTH208
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == (command not in TAKEN)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("uri", ["mlruns", "file:mlruns"])
@pytest.mark.parametrize("command", ["runs", "show latest", "ui", "sync"])
def test_nor_a_store_of_files(tmp_path: Path, command: str, uri: str):
    done = fashion_ml(*command.split(), cwd=tmp_path, uri=uri)
    assert done.returncode == 2, done.stdout + done.stderr
    assert not os.listdir(tmp_path)  # noqa: PTH208
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["show", "evaluate run", "export", "reproduce"])
def test_an_id_of_100_000_characters_is_one_line_in_a_moment(workdir: Path, command: str):
    out = ["out.safetensors"] if command == "export" else []
    began = time.process_time()
    done = fashion_ml(*command.split(), "a" * 100_000, *out, cwd=workdir, uri=os.environ["MLFLOW_TRACKING_URI"])
    assert time.process_time() - began < 20
    assert done.returncode == 2, done.stderr[-2000:]
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(line) < 4100
