from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient

from fashion_ml.errors import InputError
from fashion_ml.tracking.run import TrackedRun, open_run
from fashion_ml.tracking.spooled_client import SpooledClient


@pytest.mark.parametrize(("raised", "status"), [(KeyboardInterrupt, "KILLED"), (OSError, "FAILED")])
def test_a_run_that_is_stopped_while_its_last_metrics_are_sent_is_not_left_running(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, raised: type[BaseException], status: str
):
    errors = [raised]

    def flush(self: TrackedRun) -> None:
        if errors:
            raise errors.pop()

    with pytest.raises(raised), open_run("run", {"kind": "x"}, experiment="e") as run:
        monkeypatch.setattr(TrackedRun, "flush", flush)
    assert MlflowClient(os.environ["MLFLOW_TRACKING_URI"]).get_run(run.run_id).info.status == status


@pytest.mark.parametrize("raised", [KeyboardInterrupt, InputError], ids=["ctrl-c", "full disk"])
def test_a_run_that_came_to_its_end_keeps_its_status_whatever_its_spool_meets(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, raised: type[BaseException]
):
    close = SpooledClient.close

    def interrupted(self: SpooledClient, seconds: float) -> bool:
        close(self, seconds)
        raise raised("while it waits")

    monkeypatch.setattr(SpooledClient, "close", interrupted)

    def train() -> TrackedRun:
        with open_run("run", {"kind": "x"}, experiment="e") as run:
            run.spool_to(workdir / "run")
            run.log_metrics({"loss": 0.5}, step=1)
        return run

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    if raised is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            train()
    else:
        train()
    (found,) = client.search_runs([client.get_experiment_by_name("e").experiment_id])
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"loss": 0.5})
    assert "error" not in found.data.tags
    assert f"fashion-ml sync {workdir / 'run'}" in caplog.text


def test_the_error_that_ended_a_run_is_shown_when_the_store_is_gone_too(workdir: Path, monkeypatch: pytest.MonkeyPatch):
    def gone(*_: object, **__: object) -> None:
        raise OSError("the store is gone")

    def train() -> None:
        with open_run("run", {"kind": "x"}, experiment="e"):
            monkeypatch.setattr(MlflowClient, "set_terminated", gone)
            raise ValueError("its own error")

    with pytest.raises(ValueError, match="its own error"):
        train()


def test_the_description_begins_with_what_came_out():
    """MLflow shows its beginning alone where there is little room."""
    said: list[str] = []
    run: Any = SimpleNamespace(spooled=True, offline=False, _what="LoRA of dresses", note=said.append)
    TrackedRun.conclude(run, "Better: ...\nPrompts ...\nOne training ...")
    assert said == ["Better: ...\nPrompts ...\nOne training ...\n\nLoRA of dresses"]
