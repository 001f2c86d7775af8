"""Put one plausible fault after the other into a copy of the checkout, and see whether the tests notice: `make mutants`.

Each file of `patches/` is a fault: a first line that says what it is, `killed by:` lines with the arguments for pytest that should notice it,
and a diff. What the named tests miss, all of tests/unit and tests/contract may still notice, within two minutes in all. A fault counts as
noticed only by a test that passes without it. The exit code is 0 when every fault was noticed.

A new fault: edit the code, `git diff -U1 > tests/mutants/patches/<name>.patch`, write the lines on top of it, and take the edit back.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

PROJECT, PATCHES = Path(__file__).parents[2], Path(__file__).parent / "patches"
SECONDS = 120.0
"""All that the tests may take to notice one fault."""
EVERYTHING = ["tests/unit", "tests/contract"]
_FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?::.+?)(?: - .*)?$", re.MULTILINE)
FORKS = multiprocessing.get_context("forkserver")
"""Tests run in forks of a process that has the libraries already (importing them takes longer than most tests) and nothing of this package."""
LIBRARIES = [
    *(
        "pytest",
        "hypothesis",
        "torch",
        "torchvision",
        "transformers",
        "peft",
        "accelerate",
        "open_clip",
        "mlflow",
        "optuna",
        "pandas",
    ),
    *(
        "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
        "skimage.color",
        "skimage.measure",
        "matplotlib.figure",
    ),
]
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
"""As tests/conftest.py has it, before the libraries are there."""
KILLED, SURVIVED, NO_PATCH = "killed", "SURVIVED", "DOES NOT APPLY"


@dataclass(frozen=True)
class Mutant:
    """One fault."""

    path: Path
    fault: str
    killers: list[list[str]]
    """Arguments for pytest."""

    @property
    def name(self) -> str:
        return self.path.stem


def read(path: Path) -> Mutant:
    lines = path.read_text(encoding="utf-8").splitlines()
    named = [shlex.split(line.removeprefix("killed by:")) for line in lines if line.startswith("killed by:")]
    return Mutant(path, lines[0], named)


class Checkout:
    """A copy of the files that git tracks, in a folder of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True, text=True).stdout
        for name in filter(None, tracked.split("\0")):
            if (PROJECT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT / name, folder / name)

    def patch(self, path: Path, *, back: bool = False) -> bool:
        """Apply a patch, or take it back; whether that could be done."""
        command = ["git", "apply", "--recount", "-C1", *(["--reverse"] if back else []), str(path.absolute())]
        outside = {**os.environ, "GIT_CEILING_DIRECTORIES": str(self.folder.parent)}
        return subprocess.run(command, cwd=self.folder, capture_output=True, check=False, env=outside).returncode == 0

    def failing(self, arguments: Sequence[str], seconds: float) -> list[str]:
        """The tests that fail, of which the first ends it, or `the time` when they took too long before; empty when all pass."""
        with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace", suffix=".txt") as output:
            process = FORKS.Process(target=_pytest, args=(str(self.folder), list(arguments), output.name))
            process.start()
            process.join(max(seconds, 1))
            if process.is_alive():
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid or 0, signal.SIGKILL)
                process.kill()
                process.join()
                return ["the time"]
            found = output.read()
            if process.exitcode not in (0, 1, 2, 5) or not found.strip():
                raise RuntimeError(f"pytest {' '.join(arguments)} ended with {process.exitcode}: {found[-2000:]}")
            return _FAILED.findall(found)  # a file that cannot be imported is no test that noticed anything


def _pytest(folder: str, arguments: list[str], output: str) -> None:
    """Run tests of a copy in this process, which is new and in a group of its own."""
    import pytest

    os.setsid()
    os.chdir(folder)
    with Path(output).open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(PYTHONPATH=folder, PYTHONDONTWRITEBYTECODE="1", COLUMNS="400")
    sys.dont_write_bytecode = True  # the next fault may be in a file of the same size, within the same second
    sys.path.insert(0, folder)
    sys.exit(pytest.main(["-q", "-x", "-rfE", "-n", "0", "-p", "no:cacheprovider", *arguments]))


class Runner:
    """Tries faults, several at once, each worker in a copy of its own."""

    def __init__(self, folder: Path, workers: int):
        self._clean = Checkout(folder / "clean")
        self._copies: SimpleQueue[Checkout] = SimpleQueue()
        for number in range(workers):
            self._copies.put(Checkout(folder / f"copy{number}"))
        self._passes: dict[str, bool] = {}
        self._lock = threading.Lock()

    def try_one(self, mutant: Mutant) -> tuple[str, str]:
        """What became of a fault, and the test that noticed it."""
        copy = self._copies.get()
        try:
            if not copy.patch(mutant.path):
                return NO_PATCH, ""
            try:
                return self._hunt(mutant, copy)
            finally:
                copy.patch(mutant.path, back=True)
        finally:
            self._copies.put(copy)

    def _hunt(self, mutant: Mutant, copy: Checkout) -> tuple[str, str]:
        left = SECONDS
        for arguments in [*mutant.killers, EVERYTHING]:
            began = time.monotonic()
            failed = copy.failing(arguments, left)
            left -= time.monotonic() - began
            if failed and failed != ["the time"] and self._passes_without(failed[0]):
                return KILLED, failed[0]
            if left <= 0:
                break
        return SURVIVED, ""

    def _passes_without(self, test: str) -> bool:
        """Whether a test passes where no fault is: else it proves nothing."""
        with self._lock:
            if test not in self._passes:
                self._passes[test] = not self._clean.failing([test], 10 * SECONDS)
            return self._passes[test]


def main() -> int:
    """Try all faults, or those named; 1 unless every one was noticed."""
    parser = argparse.ArgumentParser(description="Do the tests notice plausible faults?")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these faults (names of files in patches/)")
    parser.add_argument("--workers", type=int, choices=(1, 2), default=2)
    options = parser.parse_args()
    mutants = [read(path) for path in sorted(PATCHES.glob("*.patch")) if not options.only or path.stem in options.only]
    if not mutants or (options.only and len(mutants) < len(set(options.only))):
        sys.stderr.write("there is no such fault in tests/mutants/patches\n")
        return 2
    os.environ.update(ENVIRONMENT)
    FORKS.set_forkserver_preload(LIBRARIES)
    ends: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(options.workers) as pool:
        runner = Runner(Path(temporary), options.workers)

        def work(mutant: Mutant) -> None:
            began = time.monotonic()
            state, test = runner.try_one(mutant)
            ends[mutant.name] = state
            seconds = f"{time.monotonic() - began:.0f} s"
            line = (
                f"{len(ends)}/{len(mutants)} {state} {mutant.name}: {mutant.fault} ({', '.join(filter(None, [test, seconds]))})"
            )
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

        list(pool.map(work, mutants))
    for state in (SURVIVED, NO_PATCH):
        names = sorted(name for name, end in ends.items() if end == state)
        if names:
            sys.stdout.write(f"{state}: {', '.join(names)}\n")
    killed = sum(end == KILLED for end in ends.values())
    sys.stdout.write(f"killed {killed} of {len(mutants)}\n")
    return 0 if killed == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
