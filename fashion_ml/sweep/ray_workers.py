"""The workers of a sweep or suite as tasks of a Ray cluster: Ray places them, gives each its GPU, and runs those of a lost node again."""

from __future__ import annotations

import importlib
import os
import subprocess
from pathlib import Path
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.own_file import open_log
from fashion_ml.runtime.parent_process import PARENT
from fashion_ml.runtime.redact import first_line
from fashion_ml.sweep.local_workers import worker_command
from fashion_ml.sweep.plan import STORAGE

_PASSED = ("MLFLOW_", "FASHION_ML_", "AWS_", "HF_", "TRANSFORMERS_")
"""Environment variables with these beginnings go with the workers."""


class RayWorkers:
    """One task for each GPU of the cluster of RAY_ADDRESS, or `size` of them; a core each where the cluster has no GPU.

    All nodes must see the working folder under the same path, and reach the storage and the tracking store. InputError when Ray or the
    cluster is missing.
    """

    def __init__(self, kind: str, spec_path: Path, url: str, folder: Path, size: int | None, deadline: float | None):
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError:
            raise InputError(tr("--launcher: ray is not installed; pip install 'fashion-ml[ray]'")) from None
        try:
            ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(
                tr(
                    "--launcher: no Ray cluster ({first_line}); start one with ray start --head, or set RAY_ADDRESS",
                    first_line=first_line(error),
                )
            ) from None
        self._ray, self._folder = ray, folder
        self._kind, self._spec, self._deadline = kind, spec_path.absolute(), deadline
        self._environment = {key: value for key, value in os.environ.items() if key.startswith(_PASSED)} | {STORAGE: url}
        gpus = int(ray.cluster_resources().get("GPU", 0))
        self.size = (gpus or 1) if size is None else size
        needs = {"num_gpus": 1, "num_cpus": 1} if gpus else {"num_cpus": 1}
        self._task = ray.remote(max_retries=-1, **needs)(_work)
        self._tasks: dict[int, Any] = {}
        self._errors: dict[int, str] = {}

    def start(self, number: int) -> None:
        """As the protocol says."""
        command = worker_command(self._kind, self._spec, number, self._deadline)
        self._tasks[number] = self._task.remote(
            command, str(Path.cwd()), self._environment, str(self._folder / f"worker_{number}.log")
        )

    def poll(self, number: int) -> int | None:
        """As the protocol says."""
        done, _ = self._ray.wait([self._tasks[number]], timeout=0)
        if not done:
            return None
        try:
            return int(self._ray.get(done[0]))
        except self._ray.exceptions.RayError as error:
            self._errors[number] = str(error).strip().splitlines()[-1]
            return -1

    def why(self, number: int, code: int) -> str:
        """As the protocol says."""
        return self._errors.get(number) or tr(
            "worker {number} ended with {code}; see {folder} on its node",
            number=number,
            code=code,
            folder=self._folder / f"worker_{number}.log",
        )

    def stop(self) -> None:
        """As the protocol says."""
        for task in self._tasks.values():
            self._ray.cancel(task, force=True)
        self._ray.shutdown()


def _work(command: list[str], folder: str, environment: dict[str, str], log: str) -> int:
    """A worker on a node; Ray has set CUDA_VISIBLE_DEVICES for this task. It ends when Ray ends this process."""
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    own = {**os.environ, **environment, PARENT: str(os.getpid())}
    with open_log(Path(log), "SPEC") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=own, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    return process.wait()
