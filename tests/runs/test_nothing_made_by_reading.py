"""What only reads makes no store: in a folder without one it says so, and leaves the folder as it was."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.runs.command import fashion_ml

NO_RUN = "0" * 32


@pytest.mark.parametrize(
    "command",
    [
        "runs",
        "show latest",
        f"show {NO_RUN}",
        f"inspect {NO_RUN}",
        f"evaluate run {NO_RUN}",
        f"compare {NO_RUN} latest",
        f"evaluate compare {NO_RUN} latest",
        f"export {NO_RUN} out.safetensors",
        f"register {NO_RUN} --name x",
        f"reproduce {NO_RUN}",
    ],
)
def test_a_command_that_reads_makes_no_store(tmp_path: Path, command: str):
    here = tmp_path / "empty"
    here.mkdir()
    done = fashion_ml(*command.split(), cwd=here, uri=f"sqlite:///{here / 'mlflow.db'}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert not os.listdir(here)  # noqa: PTH208
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1
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
