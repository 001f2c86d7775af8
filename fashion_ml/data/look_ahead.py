"""Image files looked at by other processes while this one imports torch and the base's libraries: seconds that take one core alone.

`python -m fashion_ml.data.look_ahead PARENT` is such a process: paths from stdin, each ended by a NUL, and for each a line of JSON to
stdout, the file as the note of `image_index` has it, or null. Nothing depends on it: a file of which nothing came is looked at by whoever
reads it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from fashion_ml.data.image_index import looked_at, noted
from fashion_ml.data.pictures import PictureError, is_image
from fashion_ml.runtime.console import bar
from fashion_ml.runtime.cores import cores
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.module_command import module_command

_MOST, _LINES, _EVERY, _PATIENCE = 8, 64, 0.05, 60.0
"""Processes, lines that one hands over at once, seconds between two looks at them, and seconds after which nothing more is expected of any."""


@dataclass
class _Part:
    """A process, the files that it looks at, and what it has said of the first of them."""

    share: Sequence[Path]
    process: subprocess.Popen[bytes]
    file: IO[bytes]
    said: bytearray = field(default_factory=bytearray)

    def come(self) -> int:
        """How many files it has looked at since it was last asked."""
        number = self.file.fileno()
        new = os.pread(number, os.fstat(number).st_size - len(self.said), len(self.said))
        self.said += new
        return new.count(b"\n")

    def notes(self) -> Iterator[tuple[str, list[object]]]:
        """What it found, by absolute paths."""
        with suppress(ValueError):  # one that was killed has left half a line
            for path, line in zip(self.share, self.said.splitlines(), strict=False):
                note = json.loads(line)
                if note is not None:
                    yield str(path.absolute()), note


class LookAhead:
    """Processes that look at image files, one for each core that this one leaves; their lines lie in files that have no name."""

    def __init__(self, paths: Sequence[Path]):
        """Start them. OSError where that cannot be."""
        self._parts, self._total = list[_Part](), len(paths)
        count = min(_MOST, cores() - 1)
        try:
            for number in range(count):
                self._start(paths[number::count])
        except BaseException:
            self.stop()
            raise

    def _start(self, share: Sequence[Path]) -> None:
        found = TemporaryFile()  # noqa: SIM115 (closed by `stop`)
        with TemporaryFile() as given:
            given.write(b"".join(os.fsencode(path.absolute()) + b"\0" for path in share))
            given.seek(0)
            command = module_command("fashion_ml.data.look_ahead", str(os.getpid()))
            process = subprocess.Popen(command, stdin=given, stdout=found, stderr=subprocess.DEVNULL)
        self._parts.append(_Part(share, process, found))

    def found(self) -> dict[str, list[object]]:
        """Wait for the processes, and return what they found as `noted`, by absolute paths; of those that stopped nothing more."""
        done, heard = self._come(), time.monotonic()
        with bar(tr("check images"), self._total, done) if self._are_at_work() else nullcontext() as shown:
            while self._are_at_work():
                time.sleep(_EVERY)
                new, now = self._come(), time.monotonic()
                heard = now if new else heard
                if now - heard > _PATIENCE:
                    break
                if shown is not None and new:
                    shown.advance(new)
        self._come()
        notes = {path: note for part in self._parts for path, note in part.notes()}
        self.stop()
        return notes

    def stop(self) -> None:
        """End them."""
        for part in self._parts:
            part.process.kill()
            part.process.wait()
            part.file.close()
        self._parts = []

    def _are_at_work(self) -> bool:
        return any(part.process.poll() is None for part in self._parts)

    def _come(self) -> int:
        return sum(part.come() for part in self._parts)


def _look(path: Path) -> list[object] | None:
    if not is_image(path.name):  # asked here too, for with that Pillow knows formats of plugins, such as HEIC
        return None
    try:
        found, state = looked_at(path)
    except (PictureError, OSError):
        return None
    return noted(state, found)


def _main(parent: int) -> None:
    paths, lines = sys.stdin.buffer.read().split(b"\0")[:-1], list[str]()
    for number, path in enumerate(paths, start=1):
        if os.getppid() != parent:  # which was killed
            return
        lines.append(json.dumps(_look(Path(os.fsdecode(path)))) + "\n")
        if number % _LINES == 0 or number == len(paths):
            sys.stdout.write("".join(lines))
            sys.stdout.flush()
            lines.clear()


if __name__ == "__main__":
    _main(int(sys.argv[1]))
