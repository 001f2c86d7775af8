"""One real training through the command line, looked at by many tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.recipes.command import FEW, SHORT, Finished, fashion_ml


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Finished:
    """`fashion-ml train lora`, a few steps on the embedded default, with a small evaluation."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(empty_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    result = fashion_ml("train", "lora", *SHORT, *FEW, "--json", "facts.json", cwd=folder, uri=uri)
    assert result.returncode == 0, result.stderr
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return Finished(folder, facts, result.stdout, result.stderr, uri)
