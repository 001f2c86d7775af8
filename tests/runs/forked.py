"""The command line in processes that are forked from one that has imported what commands need: a second each instead of ten."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import alembic.command  # noqa: F401
import diffusers  # noqa: F401 (what follows is imported once, by the process that the others are copies of)
import ftfy  # noqa: F401
import matplotlib.pyplot as plt  # noqa: F401
import mlflow.store.tracking.sqlalchemy_store
import mlflow.tracking  # noqa: F401
import open_clip  # noqa: F401
import optuna  # noqa: F401
import pandas as pd  # noqa: F401
import psutil
import rich.syntax  # noqa: F401
import torch
from accelerate import Accelerator  # noqa: F401
from diffusers import StableDiffusionPipeline  # noqa: F401

import fashion_ml.evaluation.log_evaluation
import fashion_ml.runs.lora
import fashion_ml.runs.stargan
import fashion_ml.training.lora_loop
import fashion_ml.training.stargan_loop  # noqa: F401
from fashion_ml import cli
from fashion_ml.runtime.parent_process import PARENT

_HANGS_SECONDS = 100


@lru_cache(maxsize=1)
def processes() -> Any:
    """Where these processes come from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.runs.forked"])
    return context


class Forked:
    """A command that runs in a process of its own; `before` is called in it first, and must be a function of a module, or a partial of one."""

    def __init__(self, *arguments: str, cwd: Path, uri: str, name: str = "forked", before: Callable[[], object] | None = None):
        self.out, self.err = cwd / f"{name}.out", cwd / f"{name}.err"
        self._process = processes().Process(target=_main, args=(arguments, cwd, uri, self.out, self.err, before))
        self._process.start()

    @property
    def pid(self) -> int:
        """Its number."""
        return int(self._process.pid)

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self._process.pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """SIGKILL of it and of all others that were forked from the same one, and wait for their end."""
        with contextlib.suppress(psutil.NoSuchProcess):
            both = psutil.Process(self.pid).parent()
            victims = both.children() if both else []
            for one in victims:
                one.kill()
            psutil.wait_procs(victims, timeout=30)
        self._process.join()

    def ends_within(self, seconds: float) -> bool:
        """Whether it has ended by then."""
        self._process.join(seconds)
        return self._process.exitcode is not None

    def wait(self, seconds: float = 150) -> int:
        """Its exit code, minus the signal's number where one ended it."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"it hangs: {self.said()}"
        return int(self._process.exitcode)

    def said(self) -> str:
        """What it has written to stderr."""
        return self.err.read_text(encoding="utf-8", errors="replace") if self.err.exists() else ""


def forked(
    *arguments: str, cwd: Path, uri: str, before: Callable[[], object] | None = None, seconds: float = 150
) -> tuple[int, str]:
    """Exit code and stderr of a command in a process of its own, which takes at most so many seconds."""
    one = Forked(*arguments, cwd=cwd, uri=uri, before=before)
    return one.wait(seconds), one.said()


class ForkedPopen:
    """What workers and trainings of studies need of `subprocess.Popen`, for commands of this package, which it forks likewise."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], stdout: Any, **_: Any):
        assert list(command[1:3]) == ["-m", "fashion_ml"]
        own = {key: value for key, value in env.items() if key != PARENT}  # its parent is the process that it is a copy of
        log = Path(stdout.name)
        before = partial(_as_child, own, os.getpid())
        uri = env["MLFLOW_TRACKING_URI"]
        self._process = processes().Process(target=_main, args=(tuple(command[3:]), Path.cwd(), uri, log, log, before))
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """As Popen has it."""
        code = self._process.exitcode
        return None if code is None else int(code)

    def wait(self, timeout: float | None = None) -> int:
        """As Popen has it."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("fashion-ml", timeout or 0)
        return int(self._process.exitcode)

    def terminate(self) -> None:
        """As Popen has it."""
        self._process.terminate()


def fork_studies() -> None:
    """From now on workers and trainings of this process's studies are forked: what a `Forked` calls first."""
    import fashion_ml.sweep.local_workers
    import fashion_ml.sweep.trial

    for module in (fashion_ml.sweep.local_workers, fashion_ml.sweep.trial):
        module.subprocess = SimpleNamespace(  # type: ignore[attr-defined]
            Popen=ForkedPopen, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
        )


def _as_child(environment: Mapping[str, str], parent: int) -> None:
    """In a process of a study: its environment and session, and an end with its parent."""
    os.environ.clear()
    os.environ.update(environment)
    os.setsid()
    fork_studies()

    def watch() -> None:
        while psutil.pid_exists(parent) and psutil.Process(parent).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.1)
        os._exit(137)

    threading.Thread(target=watch, daemon=True).start()


def _main(arguments: tuple[str, ...], cwd: Path, uri: str, out: Path, err: Path, before: Callable[[], object] | None) -> None:
    torch.set_num_threads(1)
    os.chdir(cwd)
    os.environ["MLFLOW_TRACKING_URI"] = uri
    for path, number in ((out, 1), (err, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if out == err else os.O_TRUNC), 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    sys.argv = ["fashion-ml", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code: Any = 1
    faulthandler.dump_traceback_later(_HANGS_SECONDS)  # to stderr, which `said` shows
    try:
        if before:
            before()
        cli.main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
