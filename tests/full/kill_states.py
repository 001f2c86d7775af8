"""What lies in a folder at each operation of a command that works there: one run of it and of the processes that it begins, all stopped at
every operation of any of them and let go on again.

Stopped processes' files are those that a SIGKILL at that moment leaves, so that only what comes after the kill has to be run for each.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.runs.faults import faults, permission
from tests.runs.forked import Forked, still_running

_TEMPORARY = re.compile(r"[0-9a-f]{6}-\d+-[0-9a-f]+\.tmp$|\.artifact\.uploading\.\w+$")
"""Files that are written beside the one they become: ours, and those of MLflow's artifact store."""
_AT_REST_NS = 50_000_000
"""Times of files are no finer than a tick of the kernel; sqlite's shared memory is written without changing any."""
_OURS = "forked."
"""What the harness itself writes: the command's output."""


@dataclass(frozen=True)
class Point:
    """A moment before one of a command's operations on files."""

    number: int
    what: str
    """The operation: open, write, os.rename and so on."""
    file: str
    led_here: str
    """The lines of the package that it comes from."""
    state: str
    """Digest of all that lies in the folder; what is in a temporary file counts for nothing, for nobody reads it."""

    @property
    def place(self) -> tuple[str, str]:
        """The same for operations of one kind."""
        return self.what, self.led_here


Content = dict[str, tuple[int, int, str]]
"""By path from the folder: mode, time in ns, and digest of what is in the file (a link's target; empty for a folder)."""


class States:
    """Contents of one folder, kept beside it, each file's content once."""

    def __init__(self, folder: Path, kept: Path):
        self._folder, self._kept = folder, kept
        kept.mkdir()
        self._known: dict[str, Content] = {}
        self._read: dict[tuple[str, int, int, int, int], tuple[int, str]] = {}
        """By path, inode, size and times of a file: when it was read, and the digest."""

    def take(self) -> str:
        """Keep what lies in the folder now; the digest by which it is put back."""
        content = dict(self._files())
        told = [
            f"{_plain(name)} {'' if _TEMPORARY.search(name) else digest}" for name, (_, _, digest) in sorted(content.items())
        ]
        state = hashlib.sha256("\n".join(told).encode()).hexdigest()
        self._known.setdefault(state, content)
        return state

    def files(self, state: str) -> dict[str, str]:
        """The files of a state: by path, digest of what is in them; temporary files, under a name without numbers, and locks without it."""
        found = {name: digest for name, (mode, _, digest) in self._known[state].items() if not stat.S_ISDIR(mode)}
        return {
            _plain(name): "" if _TEMPORARY.search(name) or name.endswith(".lock") else digest for name, digest in found.items()
        }

    def put_back(self, state: str) -> None:
        """Let the folder be as it was."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        folders = []
        for name, (mode, time_ns, digest) in sorted(self._known[state].items()):
            path = self._folder / name
            if stat.S_ISDIR(mode):
                path.mkdir(exist_ok=True)
                folders.append((path, mode, time_ns))
                continue
            if stat.S_ISLNK(mode):
                path.symlink_to(digest)
                continue
            shutil.copyfile(self._kept / digest, path)
            path.chmod(stat.S_IMODE(mode))
            os.utime(path, ns=(time_ns, time_ns))
        for path, mode, time_ns in reversed(folders):
            path.chmod(stat.S_IMODE(mode))
            os.utime(path, ns=(time_ns, time_ns))

    def _files(self) -> Iterator[tuple[str, tuple[int, int, str]]]:
        for above, folders, files in os.walk(self._folder):
            for name in (*folders, *files):
                path = Path(above) / name
                if name.startswith(_OURS):
                    continue
                there, key = path.lstat(), str(path.relative_to(self._folder))
                if stat.S_ISLNK(there.st_mode):
                    yield key, (there.st_mode, there.st_mtime_ns, str(path.readlink()))
                else:
                    yield (
                        key,
                        (there.st_mode, there.st_mtime_ns, "" if stat.S_ISDIR(there.st_mode) else self._digest(path, there)),
                    )

    def _digest(self, path: Path, there: os.stat_result) -> str:
        """A file that was at rest for a while when it was read, and has its times still, is not read again."""
        key = (str(path), there.st_ino, there.st_size, there.st_mtime_ns, there.st_ctime_ns)
        read_at, digest = self._read.get(key, (0, ""))
        if read_at - max(there.st_mtime_ns, there.st_ctime_ns) > _AT_REST_NS and not path.name.endswith("-shm"):
            return digest
        read_at = time.time_ns()
        self._read[key] = read_at, self._keep(path)
        return self._read[key][1]

    def _keep(self, path: Path) -> str:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if not (self._kept / digest).exists():
            (self._kept / digest).write_bytes(content)
        return digest


def walk(
    command: Sequence[str], folder: Path, uri: str, states: States, first: Callable[[], object], seconds: float = 3600
) -> tuple[list[Point], int, str]:
    """Run a command in a folder, `first` before it, and keep what lies there before each of its operations; with its exit code and what it
    said."""
    pipe, points = folder.parent / "operations.pipe", list[Point]()
    os.mkfifo(pipe)
    process = Forked(*command, cwd=folder, uri=uri, before=partial(in_turn, first, partial(faults, folder, pipe, 0, "stop")))
    with pipe.open(encoding="utf-8") as told:
        for line in told:
            waits, what, file, led_here = line.rstrip("\n").split("\t")
            stopped = _stopped()
            name = str(Path(file).relative_to(os.path.realpath(folder)))
            points.append(Point(len(points) + 1, what, name, led_here, states.take()))
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            _let_go_on(permission(pipe, int(waits)))
    pipe.unlink()
    return points, process.wait(seconds), process.said()


def in_turn(*calls: Callable[[], object]) -> None:
    """Call some: what a `Forked` calls first is one."""
    for call in calls:
        call()


def _let_go_on(pipe: Path) -> None:
    with suppress(OSError):  # it has been killed by the one that began it
        file = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        os.write(file, b"1")
        os.close(file)


def _stopped() -> list[int]:
    """Stop the command and all that it has begun, and wait until all threads of them are."""
    found = still_running()
    for one in found:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGSTOP)
    for one in found:
        _wait_stopped(one)
    return found


def _wait_stopped(pid: int) -> None:
    with suppress(FileNotFoundError, ProcessLookupError):
        while not all(_state(task) in "TtZX" for task in Path(f"/proc/{pid}/task").iterdir()):
            time.sleep(0.0005)


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def _plain(name: str) -> str:
    return _TEMPORARY.sub("tmp", name)
