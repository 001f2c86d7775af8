"""The workers of a sweep or suite: processes of this machine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Protocol

from fashion_ml.runs.check_inputs import CHECKED
from fashion_ml.runtime.console import say
from fashion_ml.runtime.cores import cores
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.module_command import module_command
from fashion_ml.runtime.own_file import open_log
from fashion_ml.runtime.parent_process import PARENT
from fashion_ml.runtime.problem_line import errors_among
from fashion_ml.sweep.plan import STORAGE

_THREADS = "OMP_NUM_THREADS"


class Workers(Protocol):
    """Workers by number, wherever they run."""

    size: int

    def start(self, number: int) -> None:
        """Start, or start again, a worker. InputError where its log cannot be written."""

    def poll(self, number: int) -> int | None:
        """Exit code of a worker, negative when it was killed; None while it runs."""

    def why(self, number: int, code: int) -> str:
        """What a worker said that ended with an error."""

    def stop(self) -> None:
        """End all workers; they let their trainings save first."""


class LocalWorkers:
    """One process for each GPU of this machine, or `size` of them that share the GPUs, or the cores where there is none."""

    def __init__(self, kind: str, spec_path: Path, url: str, folder: Path, size: int | None, deadline: float | None):
        self._kind, self._spec, self._url, self._folder, self._deadline = kind, spec_path, url, folder, deadline
        self._gpus = visible_gpus()
        self.size = (len(self._gpus) or 1) if size is None else size
        if told := shares_of(self._gpus, self.size):
            say(told)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._logged: dict[int, int] = {}

    def start(self, number: int) -> None:
        """As the protocol says."""
        own = {PARENT: str(os.getpid()), STORAGE: self._url, CHECKED: "1"}
        if self._gpus:
            own["CUDA_VISIBLE_DEVICES"] = self._gpus[number % len(self._gpus)]
        if not os.environ.get(_THREADS):  # else each takes all cores, and threads that wait for each other spin
            own[_THREADS] = str(max(cores() // self.size, 1))
        with open_log(self._log(number), "SPEC") as log:
            self._logged[number] = log.tell()  # what is before it was said by an earlier one
            self._processes[number] = subprocess.Popen(
                worker_command(self._kind, self._spec, number, self._deadline),
                env={**os.environ, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def poll(self, number: int) -> int | None:
        """As the protocol says."""
        return self._processes[number].poll()

    def why(self, number: int, code: int) -> str:
        """As the protocol says."""
        said = self._log(number).read_bytes()[self._logged.get(number, 0) :]
        lines = said.decode(errors="replace").strip().splitlines()
        errors = errors_among(lines)
        return (
            errors[-1]
            if errors
            else tr("worker {number} ended with {code}; see {log}", number=number, code=code, log=self._log(number))
        )

    def stop(self) -> None:
        """As the protocol says."""
        running = [process for process in self._processes.values() if process.poll() is None]
        for process in running:
            process.terminate()
        for process in running:
            process.wait()

    def _log(self, number: int) -> Path:
        return self._folder / f"worker_{number}.log"


def worker_command(kind: str, spec_path: Path, number: int, deadline: float | None) -> list[str]:
    """The command of a worker of a sweep or suite, its `kind`; the storage is in its environment."""
    left = [] if deadline is None else ["--seconds", f"{max(deadline - time.monotonic(), 0):.0f}"]
    return module_command("fashion_ml", f"{kind}-worker", str(spec_path), "--worker", str(number), *left)


def visible_gpus() -> list[str]:
    """The visible GPUs as CUDA_VISIBLE_DEVICES names them: by number, by UUID (GPU-…), or parts of one (MIG-…), handed on as they are given.

    As CUDA reads it, the list ends before -1.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        names = (name.strip() for name in given.split(","))
        return [name for name in takewhile(lambda name: name != "-1", names) if name]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def shares_of(gpus: Sequence[str], workers: int) -> str:
    """What each worker has of the GPUs' memory, in words; empty where there is no GPU or no worker."""
    if not gpus or not workers:
        return ""
    names = ", ".join(gpus)
    if workers <= len(gpus):
        return tr("Each worker has a GPU of its own and all the memory of it (CUDA_VISIBLE_DEVICES {names})", names=names)
    most = -(-workers // len(gpus))
    return tr(
        "Up to {most} workers share a GPU (CUDA_VISIBLE_DEVICES {names}): nothing holds one of them to "
        "1/{most} of its memory, and where they need more together one runs out of it; --workers {count} "
        "gives each a GPU of its own",
        most=most,
        names=names,
        count=len(gpus),
    )
