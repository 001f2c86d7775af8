"""A second command in a folder in which a first one works: refused before anything is written, and no point of a run is made twice."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fashion_ml.runtime.folder_lock import folder_lock
from tests.full.kill_scenarios import OWN, STARGAN, encoded, pictures
from tests.runs.command import fashion_ml
from tests.runs.forked import Forked
from tests.runs.test_train_stargan import draw

pytestmark = pytest.mark.slow

TINY = [
    "--steps",
    "4",
    "--rank",
    "2",
    "--resolution",
    "32",
    "--set",
    "training.log_every=1",
    "--no-evaluate",
    "--output-dir",
    "out",
]
SMALL = [*OWN, *TINY]


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder but the store, which other tests' locks may touch: size and time."""
    there = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("mlflow.db"))
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in there}


def runs_in_store() -> int:
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    return sum(len(client.search_runs([one.experiment_id])) for one in client.search_experiments())


@pytest.fixture
def busy(workdir: Path) -> Iterator[Path]:
    """A working folder in which another thread works in `out` and the folders of a sweep and a suite, as other processes would."""
    draw(workdir / "images", count=2)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as locks:
            for name in ("out", "outputs/sweeps/lora_rank_lr", "outputs/suites/lora_rank"):
                locks.enter_context(folder_lock(workdir / name))
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    yield workdir
    done.set()
    thread.join()


COMMANDS = {
    "train lora": ("train", "lora", *TINY),
    "train lora --new": ("train", "lora", *TINY, "--new"),
    "train lora --resume": ("train", "lora", *TINY, "--resume"),
    "train stargan": ("train", "stargan", "--output-dir", "out"),
    "train stargan --new": ("train", "stargan", "--output-dir", "out", "--new"),
    "train stargan --resume": ("train", "stargan", "--output-dir", "out", "--resume"),
    "encode": ("encode", "images", "out"),
    "evaluate images": (
        *("evaluate", "images", "--generated", "images/plain", "--reference", "images/plain", "--output-dir", "out"),
        *("--encoder", "embedded"),
    ),
    "sweep": ("sweep", "sweeps/lora_rank_lr.yaml", "--workers", "1"),
    "suite": ("suite", "suites/lora_rank.yaml", "--workers", "1"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_in_which_another_command_works_is_refused_and_nothing_is_written(busy: Path, command: str):
    (busy / "out" / "run.json").write_text(
        json.dumps({"run_id": "0" * 32, "tracking_uri": "", "data_digest": "", "finished": False})
    )
    before, runs = state(busy), runs_in_store()
    result = fashion_ml(*COMMANDS[command], cwd=busy, uri=os.environ["MLFLOW_TRACKING_URI"])
    assert result.returncode == 2, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "another command is at work in" in errors[0]
    assert (state(busy), runs_in_store()) == (before, runs)


TRAININGS = {
    "lora": (("train", "lora", *SMALL), pictures, "total_loss", [1, 2, 3, 4]),
    "stargan": ((*STARGAN, "--no-evaluate"), encoded, "g_loss", [1, 2]),
}
"""What is run twice, what is there before it, a metric and its steps."""


def finished_runs(uri: str, trainer: str) -> list[str]:
    client, (_, _, metric, steps) = MlflowClient(uri), TRAININGS[trainer]
    there = [one.experiment_id for one in client.search_experiments()]
    found = client.search_runs(there, f"tags.kind = 'train_{trainer}'")
    assert {run.info.status for run in found} <= {"FINISHED"}
    for run in found:
        assert [point.step for point in client.get_metric_history(run.info.run_id, metric)] == steps
    return [run.info.run_id for run in found]


@pytest.mark.parametrize("trainer", TRAININGS)
def test_two_trainings_that_begin_together_in_one_folder_are_one_training(workdir: Path, trainer: str):
    uri, (command, prepare, _, _) = os.environ["MLFLOW_TRACKING_URI"], TRAININGS[trainer]
    prepare(workdir)
    both = [Forked(*command, cwd=workdir, uri=uri, name=str(number)) for number in range(2)]
    codes = [one.wait() for one in both]
    assert sorted(codes) == [0, 2], [one.said() for one in both]
    assert "another command is at work" in both[codes.index(2)].said()
    assert finished_runs(uri, trainer) == [json.loads((workdir / "out" / "run.json").read_text())["run_id"]]


@pytest.mark.parametrize("trainer", TRAININGS)
def test_two_resumes_that_begin_together_are_one(workdir: Path, trainer: str):
    uri, (command, prepare, _, _) = os.environ["MLFLOW_TRACKING_URI"], TRAININGS[trainer]
    prepare(workdir)
    stopped = Forked(*command, cwd=workdir, uri=uri)
    while not (workdir / "out" / "run.json").exists():
        assert stopped._process.is_alive(), stopped.said()
    stopped.kill()
    stopped.wait()
    both = [Forked(*command, "--resume", cwd=workdir, uri=uri, name=str(number)) for number in range(2)]
    codes = [one.wait() for one in both]
    assert sorted(codes) == [0, 2], [one.said() for one in both]
    assert len(finished_runs(uri, trainer)) == 1
