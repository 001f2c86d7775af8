"""The command line in processes that are forked from one that has imported what commands need: a second each instead of ten."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from fashion_ml.runtime.module_command import module_command
from fashion_ml.runtime.parent_process import PARENT
from tests.runs import blank_figures

_PROJECT, _PYTHON = Path(__file__).parents[2], sys.executable
_HANGS_SECONDS = 100
_PRELOADED = "tests.runs.preloaded"

in_children: Callable[[], object] | None = None
"""What is called first in each process that a `Forked` begins in its turn, and in theirs."""


@lru_cache(maxsize=1)
def processes() -> Any:
    """Where these processes come from: for those that they begin in their turn too, which would else each make a server of their own."""
    if _PRELOADED in sys.modules:  # this is one of those
        forkserver._forkserver.ensure_running = lambda: None  # type: ignore[attr-defined]
        return multiprocessing.get_context("forkserver")
    context, before = multiprocessing.get_context("forkserver"), os.environ.copy()
    context.set_forkserver_preload([_PRELOADED])
    os.environ["PYTHONPATH"] = str(_PROJECT)  # it imports by this alone, wherever it starts, and says nothing when it cannot
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


class Forked:
    """A command that runs in a process of its own; `before` is called in it first, and must be a function of a module, or a partial of one."""

    def __init__(self, *arguments: str, cwd: Path, uri: str, name: str = "forked", before: Callable[[], object] | None = None):
        self.out, self.err = cwd / f"{name}.out", cwd / f"{name}.err"
        environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
        self._process = processes().Process(
            target=_main, args=("fashion_ml", arguments, cwd, environment, self.out, self.err, before)
        )
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
        kill_running()
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
    """What this package and its tests need of `subprocess.Popen`, for `python -m MODULE …` and a `module_command`, which it forks likewise."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdout: Any = subprocess.DEVNULL,
        stderr: Any = None,
        **_: Any,
    ):
        assert is_forked(command)
        own = {
            key: value for key, value in (env or os.environ).items() if key != PARENT
        }  # its parent is the process that it is a copy of
        out = _path(stdout)
        err = out if stderr in (None, subprocess.STDOUT) else _path(stderr)
        arguments, before = tuple(map(str, command[3:])), partial(_as_child, os.getpid(), blank_figures.blank, in_children)
        self._process = processes().Process(
            target=_main, args=(command[2], arguments, cwd or Path.cwd(), own, out, err, before)
        )
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

    def send_signal(self, number: int) -> None:
        """As Popen has it."""
        os.kill(self.pid, number)


def is_forked(command: Sequence[str]) -> bool:
    """Whether a command is one of those that `ForkedPopen` can begin."""
    return command[0] == _PYTHON and command[1] in ("-m", module_command("")[1]) and command[2].startswith("fashion_ml")


def forked_run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    """What this package needs of `subprocess.run`, likewise, with what it has said; any other command is begun as ever."""
    if not is_forked(command):
        return subprocess.run(command, **options)
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / name for name in ("out", "err")]
        with said[0].open("wb") as out, said[1].open("wb") as err:
            code = ForkedPopen(command, env=options.get("env"), cwd=options.get("cwd"), stdout=out, stderr=err).wait()
        return subprocess.CompletedProcess(command, code, *(path.read_text(encoding="utf-8") for path in said))


def fork_studies(patch: Callable[[object, str, object], None] = setattr) -> None:
    """From now on what this process's studies begin is forked: the look at their inputs, workers, trainings. What a `Forked` calls first."""
    import fashion_ml.runs.check_inputs
    import fashion_ml.sweep.local_workers
    import fashion_ml.sweep.trial

    begun = SimpleNamespace(
        Popen=ForkedPopen, run=forked_run, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
    )
    for module in (fashion_ml.runs.check_inputs, fashion_ml.sweep.local_workers, fashion_ml.sweep.trial):
        patch(module, "subprocess", begun)


def _path(stream: Any) -> Path:
    return Path(os.devnull if stream == subprocess.DEVNULL else stream.name)


def quick_studies() -> None:
    """`fork_studies`, and nothing is drawn. What a `Forked` calls first."""
    fork_studies()
    blank_figures.draw_nothing()


def still_running() -> list[int]:
    """The forked processes of this one, and those that they have begun, that have not ended."""
    server, found = forkserver._forkserver._forkserver_pid, list[int]()  # type: ignore[attr-defined]
    for one in psutil.Process(server).children() if server else ():
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [one.pid] if one.status() != psutil.STATUS_ZOMBIE else []
    return found


def kill_running() -> None:
    """SIGKILL of them, and wait for their end."""
    while running := still_running():
        for one in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        time.sleep(0.01)


def _as_child(parent: int, blank: bool, more: Callable[[], object] | None) -> None:
    """In a process that another one begins: a session of its own, and an end with its parent; it draws nothing where that one does not."""
    os.setsid()
    (quick_studies if blank else fork_studies)()
    if more is not None:
        more()

    def watch() -> None:
        while psutil.pid_exists(parent) and psutil.Process(parent).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.1)
        os._exit(137)

    threading.Thread(target=watch, daemon=True).start()


def _main(
    module: str,
    arguments: tuple[str, ...],
    cwd: Path,
    environment: Mapping[str, str],
    out: Path,
    err: Path,
    before: Callable[[], object] | None,
) -> None:
    from fashion_ml import cli

    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # that of the process it is a copy of
    os.chdir(cwd)
    for path, number in ((out, 1), (err, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if out == err else os.O_TRUNC), 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    sys.argv = [module, *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code: Any = 1
    faulthandler.dump_traceback_later(_HANGS_SECONDS)  # to stderr, which `said` shows
    try:
        if before:
            before()
        if module == "fashion_ml":
            sys.argv[0] = "fashion-ml"
            cli.main()
        else:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
