from __future__ import annotations

import os
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fashion_ml.tracking import TrackedRun, open_run


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
