"""The real command line, in this process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from accelerate.state import AcceleratorState
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from fashion_ml import cli

SHORT = ["--steps", "6", "--rank", "4", "--alpha", "2", "--lr", "1e-3", "--seed", "7"]
FEW = [
    *("--set", "training.log_every=2", "--set", "evaluation.max_references=2"),
    *("--set", "evaluation.num_inference_steps=2", "--set", "evaluation.resamples=50"),
    *("--set", "evaluation.prompts=none", "--set", "evaluation.images_per_reference=2"),
    *("--set", "evaluation.guidance_scale=3", "--set", "evaluation.batch_size=16"),
]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Command = Callable[..., list[str]]
"""Takes a command line that is refused, returns its error lines."""


@dataclass(frozen=True)
class Finished:
    """A run of the command line that ended well."""

    folder: Path
    facts: dict[str, Any]
    stdout: str
    stderr: str
    uri: str


def copied(run: Finished, folder: Path) -> Finished:
    """A finished run with its files and its store in another, new folder, so that tests may add to it.

    Its runs keep their ids, by which MLflow remembers in a process where their artifacts lie: from now on that is the new folder.
    """
    shutil.copytree(run.folder, folder)
    before, after = str(run.folder), str(folder)
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            store.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (before, after))
        store.commit()
    _artifact_repos_cache.clear()
    facts = json.loads(json.dumps(run.facts).replace(before, after))
    return Finished(folder, facts, run.stdout, run.stderr, f"sqlite:///{folder / 'mlflow.db'}")


def fashion_ml(*arguments: str, cwd: Path, uri: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in this process: the same `main`, with working folder, environment and signal handlers of its own."""
    before = os.environ.copy(), Path.cwd(), sys.argv, {number: signal.getsignal(number) for number in _SIGNALS}
    out, err, code = io.StringIO(), io.StringIO(), 0
    os.environ.update({"MLFLOW_TRACKING_URI": uri, **environment})
    os.chdir(cwd)
    sys.argv = ["fashion-ml", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a process of its own; a test process may ignore it
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    finally:
        os.environ.clear()
        os.environ.update(before[0])
        os.chdir(before[1])
        sys.argv = before[2]
        for number, handler in before[3].items():
            signal.signal(number, handler)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@contextmanager
def once(holds: Callable[[], bool], act: Callable[[], object]) -> Iterator[None]:
    """While a command runs in this process, another thread acts as soon as something holds, and not if it never does."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            if holds():
                act()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(port: int, log: Path) -> None:
    """Wait until the MLflow server on a port answers; its log is shown when it does not."""
    deadline = time.monotonic() + 120
    while True:
        try:
            urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
            return
        except OSError:
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.3)
