"""What an input is given to: a process of its own that may take 20 s of a processor, a minute on the wall, which waits where many tests run
at once, and 4 GB, start no process, and write below one folder alone."""

from __future__ import annotations

import errno
import faulthandler
import os
import pickle
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

SECONDS, MEMORY = 20, 4 << 30
GOOD = ("taken", "refused")
_SAY_ONE = ("doctor", "reproduce", "suite", "sweep", "sync")
"""Commands that say by exit code 1 that they have done their work and that not all is well; any other one has no such answer."""
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn")
_CHANGES = {
    "os.remove": 1,
    "os.rename": 2,
    "os.rmdir": 1,
    "os.mkdir": 1,
    "os.link": 2,
    "os.symlink": 2,
    "os.truncate": 1,
    "shutil.rmtree": 1,
}
"""Events that change files, and how many paths each has."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Outcome:
    """What became of an input."""

    kind: str
    """`taken`, also where a command that has such an answer says by exit code 1 that not all is well, `refused` (one line), or a fault:
    `traceback`, `code` (of an exit that means nothing), `hang`, `memory`, `crash`, `process`, `network`, `outside`, `long`."""
    text: str

    @property
    def is_fault(self) -> bool:
        """Whether it may not be so."""
        return self.kind not in GOOD


def guarded(act: Callable[[], object], folder: Path) -> Outcome:
    """What happens when a forked process does it, with `folder` as the working folder."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _in_child(act, folder, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return Outcome("hang" if number in (signal.SIGALRM, signal.SIGXCPU) else "crash", signal.Signals(number).name)
    return Outcome(*pickle.loads(content)) if content else Outcome("crash", f"it ended with {status} and said nothing")


def _in_child(act: Callable[[], object], folder: Path, writing: int) -> NoReturn:
    kind, text = "crash", ""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(3 * SECONDS)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        os.chdir(folder)
        os.environ.update(TMPDIR=str(folder), HOME=str(folder), XDG_CACHE_HOME=str(folder))
        tempfile.tempdir = None
        sys.dont_write_bytecode = True
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        now = int(next(line for line in lines if line.startswith("VmSize:")).split()[1]) << 10
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.disable()  # how a process ended is told by its parent
        kind, text = _done(act, _watched(folder))
    except BaseException:
        kind, text = "crash", traceback.format_exc()
    finally:
        with suppress(OSError):
            os.write(writing, pickle.dumps((kind, text[-6000:])))
        os._exit(0)


def _done(act: Callable[[], object], broken: list[tuple[str, str]]) -> tuple[str, str]:
    from fashion_ml.errors import InputError

    out, err = StringIO(), StringIO()
    kind, text = "taken", ""
    with redirect_stdout(out), redirect_stderr(err):
        try:
            act()
        except InputError as error:
            kind, text = "refused", "\n".join(error.problems)
        except SystemExit as ended:
            text = err.getvalue()
            good = {0: "taken", None: "taken", 2: "refused"} | (
                {1: "taken"} if sys.argv[1:2] in [[one] for one in _SAY_ONE] else {}
            )
            kind = good.get(ended.code, "code")  # type: ignore[arg-type]
            text = text if kind in GOOD else f"{text}\nit ended with {ended.code!r}"
        except MemoryError:
            kind, text = "memory", traceback.format_exc()
        except BaseException:
            kind, text = "traceback", traceback.format_exc()
    if broken:
        return broken[0]
    if "does not fit into this machine's memory" in text:
        return "memory", text
    if kind == "refused" and any(len(line) > 10_000 for line in text.splitlines()):
        return "long", text
    return kind, text


def _watched(folder: Path) -> list[tuple[str, str]]:
    """A list that takes note of what may not be done, from now on in this process."""
    broken: list[tuple[str, str]] = []
    home = os.path.realpath(folder)

    def outside(path: Any, *, link: bool = False) -> bool:
        """Whether a path lies outside, or, where a `link` is what is changed, the link itself."""
        if isinstance(path, int) or path is None:
            return False
        given = Path(os.fsdecode(path)).absolute()
        whole = str(Path(os.path.realpath(given.parent), given.name)) if link else os.path.realpath(given)
        return not (whole == home or whole.startswith((f"{home}/", "/dev/shm/", "/proc/self/")))

    def device(path: Any) -> bool:
        """One that is written to stays what it is; a file that is renamed onto it would take its place."""
        return not isinstance(path, int) and Path(os.fsdecode(path)).exists() and not Path(os.fsdecode(path)).is_file()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _STARTS:
            broken.append(("process", f"{event} {arguments!r}"))
        elif event == "socket.connect":
            broken.append(("network", repr(arguments[1:])))
        elif (
            event == "open"
            and isinstance(arguments[2], int)
            and arguments[2] & _WRITES
            and outside(arguments[0])
            and not device(arguments[0])
        ):
            broken.append(("outside", repr(arguments)))
            raise PermissionError(errno.EPERM, "the guard keeps what lies outside", os.fsdecode(arguments[0]))
        elif event == "os.mkdir" and Path(os.fsdecode(arguments[0])).is_dir():
            return
        elif event in _CHANGES and any(outside(path, link=event != "os.truncate") for path in arguments[: _CHANGES[event]]):
            broken.append(("outside", f"{event} {arguments!r}"))
            raise PermissionError(errno.EPERM, "the guard keeps what lies outside", os.fsdecode(arguments[0]))

    sys.addaudithook(hook)
    return broken
