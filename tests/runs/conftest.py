"""One real training through the command line, looked at by many tests, and refusals in this process."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow import MlflowClient

from fashion_ml import cli
from tests.runs.command import FEW, SHORT, Command, Finished, copied


@pytest.fixture(scope="module", autouse=True)
def forked_studies(blank_figures: None) -> Iterator[None]:
    """What sweeps and suites of these tests begin is forked from one process that has imported everything."""
    from tests.runs.forked import fork_studies

    with pytest.MonkeyPatch.context() as patch:
        fork_studies(patch.setattr)
        yield


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, collection: Path) -> Finished:
    """`fashion-ml train lora`, a few steps on the embedded default, with a small evaluation, in a forked process.

    All test processes share one such training, which stays as it is.
    """
    from tests.runs.forked import forked_run

    base = tmp_path_factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with FileLock(f"{made}.lock"):
        if not (made / "facts.json").exists():
            made.mkdir()
            shutil.copy(empty_store, made / "mlflow.db")
            shutil.copytree(collection, made / "outputs" / collection.name)
            uri = f"sqlite:///{made / 'mlflow.db'}"
            command = [sys.executable, "-m", "fashion_ml", "train", "lora", *SHORT, *FEW, "--json", "facts.json"]
            result = forked_run(command, cwd=made, env={**os.environ, "MLFLOW_TRACKING_URI": uri})
            assert result.returncode == 0, result.stderr
            for name, said in (("stdout.txt", result.stdout), ("stderr.txt", result.stderr)):
                (made / name).write_text(said, encoding="utf-8")
        said = [(made / name).read_text(encoding="utf-8") for name in ("stdout.txt", "stderr.txt")]
        facts = json.loads((made / "facts.json").read_text(encoding="utf-8"))
    return Finished(made, facts, *said, f"sqlite:///{made / 'mlflow.db'}")


@pytest.fixture(scope="module")
def finished(trained: Finished, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The one training with its folder and store as a copy of each test file's own, which may add runs to it."""
    return copied(trained, tmp_path_factory.mktemp("finished") / "copy")


@pytest.fixture
def workdir(workdir: Path, collection: Path) -> Path:
    """A working folder with a store and the embedded collection, which would else be drawn anew in each."""
    shutil.copytree(collection, workdir / "outputs" / collection.name)
    return workdir


@pytest.fixture
def refused(workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command line in this process, expects exit code 2, returns the error lines."""

    def run(*arguments: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["fashion-ml", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        output = capsys.readouterr()
        assert caught.value.code == 2, output.err
        assert "Traceback" not in output.err
        client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
        runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
        assert not [r for r in runs if r.info.status == "RUNNING"]
        return [line for line in output.err.splitlines() if line.startswith("error: ")]

    return run
