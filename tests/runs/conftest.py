"""One real training through the command line, looked at by many tests."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fashion_ml import cli
from tests.runs.command import FEW, SHORT, Command, Finished, in_own_process


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Finished:
    """`fashion-ml train lora`, a few steps on the embedded default, with a small evaluation."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(empty_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    result = in_own_process("train", "lora", *SHORT, *FEW, "--json", "facts.json", cwd=folder, uri=uri)
    assert result.returncode == 0, result.stderr
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return Finished(folder, facts, result.stdout, result.stderr, uri)


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
