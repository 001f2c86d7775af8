"""What is said of an artifact that cannot be brought: the reason, and not that something has failed."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from fashion_ml.errors import InputError
from fashion_ml.tracking.queries import download
from fashion_ml.tracking.store import open_tracking


@pytest.fixture
def there(workdir: Path) -> tuple[Any, str, Path]:
    """A store's client, a run with an artifact, and the artifact's file."""
    client = open_tracking()
    run = client.create_run(client.create_experiment("x", artifact_location=(workdir / "artifacts").as_uri()))
    client.log_text(run.info.run_id, "seed: 1", "config.yaml")
    return client, run.info.run_id, workdir / "artifacts" / run.info.run_id / "artifacts" / "config.yaml"


def test_one_that_is_not_there_is_named_with_the_reason(there: tuple[Any, str, Path], tmp_path: Path):
    client, run, _ = there
    with pytest.raises(
        InputError, match=rf"^run_id: run {run} has no artifact none.yaml \(.*No such .*none.yaml'?\); choose a finished"
    ):
        download(client, run, "none.yaml", tmp_path)


def test_one_that_this_user_may_not_read_is_not_called_missing(
    there: tuple[Any, str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    client, run, file = there
    open_file = builtins.open

    def guarded(path: Any, *args: Any, **more: Any) -> Any:
        if str(path) == str(file):
            raise PermissionError(13, "Permission denied", str(path))
        return open_file(path, *args, **more)

    monkeypatch.setattr(builtins, "open", guarded)
    with pytest.raises(
        InputError, match=rf"^run_id: artifact config.yaml of run {run} cannot be read \(\[Errno 13\] Permission denied"
    ):
        download(client, run, "config.yaml", tmp_path)


def test_of_an_answer_of_many_lines_the_first_is_told_that_says_why(tmp_path: Path):
    """A server in front of MLflow's answers with a page."""

    class Client:
        def download_artifacts(self, run_id: str, artifact: str, folder: str) -> str:
            what = "API request to endpoint failed with error code 404 != 200. Response body: '<!doctype html>\n<p>gone</p>\n'"
            raise OSError(
                f"The following failures occurred while downloading one or more artifacts from x:\n##### File a #####\n{what}"
            )

    with pytest.raises(
        InputError, match=r"has no artifact a \(API request to endpoint failed with error code 404 != 200\. Resp"
    ):
        download(Client(), "0" * 32, "a", tmp_path)
