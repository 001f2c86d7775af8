"""A finished run that a test file has as its own: what is added to a copy is in the copy alone, in the same process too."""

from __future__ import annotations

import os
from pathlib import Path

from mlflow import MlflowClient

from tests.runs.command import Finished, copied


def test_what_is_added_to_a_copy_is_in_no_other(workdir: Path, tmp_path_factory):  # type: ignore[no-untyped-def]
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.create_experiment("own", artifact_location=str(workdir / "mlruns"))
    run_id = client.create_run(experiment).info.run_id
    client.log_text(run_id, "first", "first.txt")  # MLflow knows from now on where this run's artifacts lie
    original = Finished(workdir, {"run_id": run_id}, "", "", os.environ["MLFLOW_TRACKING_URI"])
    one, other = (copied(original, tmp_path_factory.mktemp(name) / "copy") for name in ("one", "other"))
    MlflowClient(other.uri).log_text(run_id, "second", "second.txt")
    assert sorted(path.name for path in other.folder.glob("mlruns/**/*.txt")) == ["first.txt", "second.txt"]
    assert [path.name for path in (*one.folder.glob("mlruns/**/*.txt"), *workdir.glob("mlruns/**/*.txt"))] == ["first.txt"] * 2
