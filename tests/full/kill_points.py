"""Kill a command at its operations on files, begin it again, and hold what is there then against a command that was never stopped.

`python -m tests.full.kill_points COMMAND... [--all | --only FIRST [LAST [STEP]]] [--minutes N] [--skip N] [--real] [--full] [--moments N]
[--twice [N]] [--json FILE]`: each COMMAND is one of `kill_scenarios`. By default the first and the last operation of each kind are kill points
(one kind is what the same lines of the package do); with --all, or with numbers, every one; with --minutes only as many of them as fit, evenly
over the whole command, and --skip leaves out so many that such a call has tried before.

The command runs once, and stops at each operation, so that what a kill there leaves can be kept; moments at which the same lies in the
folder are one. Operations of the workers and trainings of a sweep or suite are points as well: all of them are stopped, and killed, together.
With --real it runs anew for each point, and the process whose operation it is is killed. With --full it runs anew too, and the disk is full
from there on: the command must say so in a line, and go on when there is space again. With --moments it is killed by SIGKILL from outside, and
all that it has begun, at N random moments. With --twice the command that goes on is killed as well, at its operation N or at one that is drawn
for each point, before it goes on to the end: where it has fewer operations it has come to its end, which the line of a fault says.

What SQLite writes into its own files is no point, a commit is two: see `tests/runs/faults.py`. A killed process leaves its folders in the
system's temporary folder, which the system clears; what the command that goes on to the end leaves there counts as left over.
Prints a line for each fault, and how many points there are and were tried.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tests.full.kill_facts import STORE, differences, facts, has_open_runs, left_over
from tests.full.kill_scenarios import SCENARIOS
from tests.full.kill_states import Point, States, in_turn, walk
from tests.runs.faults import DIED, TAKES_SPACE, faults
from tests.runs.forked import Forked, forked, kill_running, quick_studies

RESUME = ("--resume",)
_FEW = 40
"""Operations that a command that goes on has at least."""
SECONDS = 1800
"""After which a command hangs: the machine may be slow."""
_NOT_BEGUN, _FINISHED = "no run has begun in", "is finished; give more"


@dataclass
class Sums:
    """What was found over all points that were tried."""

    run: int = 0
    ended: int = 0
    """How many of these had left all that a command leaves which was never stopped, so that to begin it again is to do its work again."""
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    """Not brought to an end by beginning it again."""
    left_over: list[str] = field(default_factory=list)
    """Temporary files and folders, locks that nobody holds, and processes."""

    def faults(self) -> list[str]:
        """All of them, each with its kind."""
        return [f"{kind} {line}" for kind, lines in self._kinds().items() for line in lines]

    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {kind: len(lines) for kind, lines in self._kinds().items()}

    def _kinds(self) -> dict[str, list[str]]:
        return {kind: lines for kind, lines in asdict(self).items() if isinstance(lines, list)}


class Harness:
    """One scenario in a folder of its own."""

    def __init__(self, name: str, folder: Path, store: Path, twice: int | None = None):
        """`twice` is the operation of the command that goes on at which it is killed as well; 0 draws one for each point."""
        self._scenario, self._work, self._twice = SCENARIOS[name], folder / "work", twice
        self._work.mkdir()
        self._temporary, self._note = folder / "temporary", folder / "note.txt"
        self._temporary.mkdir()
        self._uri = f"sqlite:///{self._work / STORE}"
        shutil.copy(store, self._work / STORE)
        self._scenario.prepare(self._work)
        self._states = States(self._work, folder / "kept")
        self._before = self._states.take()
        self.points, code, said = walk(
            self._scenario.command, self._work, self._uri, self._states, partial(_begins, self._temporary)
        )
        assert code == 0, said
        self._whole = facts(self._work, self._scenario.outputs)

    def distinct(self, points: Iterable[Point]) -> list[Point]:
        """One point of each state that lies in the folder at any of these."""
        return list({point.state: point for point in reversed(list(points))}.values())[::-1]

    def of_each_kind(self, points: Iterable[Point]) -> list[Point]:
        """The first and the last point of each kind."""
        first, last = dict[tuple[str, str], Point](), dict[tuple[str, str], Point]()
        for point in points:
            first.setdefault(point.place, point)
            last[point.place] = point
        return sorted({*first.values(), *last.values()}, key=lambda point: point.number)

    def point(self, point: Point, sums: Sums) -> None:
        """Begin again with what a kill at an operation leaves."""
        self._states.put_back(point.state)
        self._go_on(_said(point), sums, len(self.points) - point.number)

    def killed(self, point: Point, sums: Sums) -> None:
        """Run the command anew, kill it at an operation, and begin it again."""
        code, said, where = self.until(point, "kill")
        if code not in (0, DIED):
            sums.stuck.append(f"{where}: ended by itself: {said[-300:]}")
        self._go_on(where, sums)

    def left(self, point: Point | None = None) -> dict[str, str]:
        """The files that a kill at a point is taken to leave, or those that lie in the folder now: by path, digest of what is in them."""
        return self._states.files(point.state if point else self._states.take())

    def full(self, point: Point, sums: Sums) -> None:
        """Run the command anew, with a disk that is full from an operation on, and begin it again when there is space."""
        code, said, where = self.until(point, "full")
        if code not in (0, 2) or "Traceback" in said:
            sums.stuck.append(f"{where}: a full disk is no line: {said[-600:]}")
        self._go_on(where, sums)

    def moments(self, count: int, sums: Sums, minutes: float = math.inf) -> None:
        """Kill it, and what it has started, at so many random moments, as far as there is time."""
        self._states.put_back(self._before)
        begun = time.monotonic()
        code, said = self._run(self._scenario.command)
        seconds = time.monotonic() - begun
        assert code == 0, said
        draw, until = random.Random(0), time.monotonic() + 60 * minutes
        for number in range(1, count + 1):
            if time.monotonic() > until:
                return
            self._states.put_back(self._before)
            first = partial(_begins, self._temporary)
            process = Forked(*self._scenario.command, cwd=self._work, uri=self._uri, before=first)
            after = draw.uniform(0, seconds)
            process.ends_within(after)
            process.kill_all()
            self._go_on(f"moment {number}, after {after:.2f} of {seconds:.2f} s", sums)

    def until(self, point: Point, how: str) -> tuple[int, str, str]:
        """Run the command anew until a fault of the kind `how` at a point; its exit code, what it said, and where that was."""
        self._states.put_back(self._before)
        code, said = self._run(self._scenario.command, self._fault(point.number, how))
        return code, said, self._noted(point.number)

    def _fault(self, number: int, how: str) -> Callable[[], object]:
        self._note.write_text("")
        return partial(faults, self._work, self._note, number, how)

    def _noted(self, number: int) -> str:
        return self._note.read_text().strip() or f"{number} not reached"

    def _go_on(self, where: str, sums: Sums, left: int = 0) -> None:
        sums.run += 1
        if self._twice is not None:
            number = self._twice or random.Random(sums.run).randint(1, max(left or len(self.points), _FEW))
            code, said = self._again(self._fault(number, "kill"))
            where = f"{where}, again at {self._noted(number)}"
            if code not in (0, DIED):
                sums.stuck.append(f"{where}: ended by itself: {code}: {said[-600:]}")
        shutil.rmtree(self._temporary)  # what killed ones have left there, the system clears
        self._temporary.mkdir()
        if self._scenario.repeats and not any(differences(self._whole, facts(self._work, self._scenario.outputs))):
            sums.ended += 1
            return
        code, said = self._again()
        if code != 0:
            sums.stuck.append(f"{where}: {code}: {said[-600:]}")
            return
        for kind, line in differences(self._whole, facts(self._work, self._scenario.outputs)):
            getattr(sums, kind).append(f"{where}: {line}")
        sums.left_over += [f"{where}: {what}" for what in left_over(self._work, self._temporary)]

    def _again(self, before: Callable[[], object] | None = None) -> tuple[int, str]:
        """As its user would: go on, or begin where nothing has begun; `before` is called in the command first. Of a command that nothing begins
        again its user closes the run that is left open."""
        command = self._scenario.command
        code, said = self._run((*command, *RESUME) if self._scenario.resumes else command, before)
        if self._scenario.resumes and code == 2 and _NOT_BEGUN in said:
            code, said = self._run(command, before)
        elif self._scenario.resumes and code == 2 and _FINISHED in said:
            code = 0
        if code == 0 and before is None and self._scenario.closes and has_open_runs(self._work):
            return self._run(("doctor", "--close-runs"))
        return code, said

    def _run(self, command: Sequence[str], before: Callable[[], object] | None = None) -> tuple[int, str]:
        first = partial(in_turn, partial(_begins, self._temporary), *([before] if before else []))
        ended = forked(*command, cwd=self._work, uri=self._uri, before=first, seconds=SECONDS)
        if before is not None:  # it may have been killed, and what it has begun ends a moment later
            kill_running()
        return ended


def _begins(temporary: Path) -> None:
    """What a command calls first: it draws nothing, and its temporary files lie in a folder."""
    os.environ["TMPDIR"] = str(temporary)
    quick_studies()


def _said(point: Point) -> str:
    return f"{point.number} {point.what} {point.file} ({point.led_here.rpartition(' ')[2]})"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", choices=SCENARIOS, nargs="+")
    parser.add_argument("--only", type=int, nargs="+", default=[], metavar="N")
    for name in ("all", "real", "full"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--moments", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--skip", type=int, default=0, metavar="N")
    parser.add_argument("--twice", type=int, nargs="?", const=0, metavar="N")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = []
    for command in given.commands:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name:
            found.append(_tried(command, Path(name), given))
        if given.json:
            given.json.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(any(one["faults"] for one in found))


def _tried(command: str, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Figures and faults of one command."""
    store, begun = folder / STORE, time.monotonic()
    MlflowClient(f"sqlite:///{store}").search_experiments()
    harness, sums = Harness(command, folder, store, given.twice), Sums()
    if given.moments:
        harness.moments(given.moments, sums, given.minutes)
        how: dict[str, Any] = {"how": "random moments", "points": given.moments, "covered": sums.run}
    else:
        how = _points(command, harness, given, sums)
    if given.twice is not None:
        how["how"] += ", twice"
    found = {
        "command": command,
        **how,
        "run": sums.run,
        "ended": sums.ended,
        **sums.counts(),
        "seconds": round(time.monotonic() - begun),
    }
    for line in sums.faults() if given.moments else ():
        _tell(line)
    _tell(json.dumps(found))
    return {**found, "faults": sums.faults()}


def _points(command: str, harness: Harness, given: argparse.Namespace, sums: Sums) -> dict[str, Any]:
    wanted = [point for point in harness.points if not given.full or point.what in TAKES_SPACE]
    there, kinds, states = len(wanted), len({point.place for point in wanted}), len(harness.distinct(wanted))
    if given.only:
        first, last, step = (*given.only, *(1, harness.points[-1].number, 1)[len(given.only) :])
        tried = [point for point in wanted if point.number in range(first, last + 1, step)]
    else:
        tried = wanted if given.all else harness.of_each_kind(wanted)
    anew = given.full or given.real
    tried = tried if anew else harness.distinct(tried)
    _tell(f"{command}: {there} points of {kinds} kinds, {states} states of the folder; {len(tried)} are to be run")
    how = harness.full if given.full else harness.killed if given.real else harness.point
    until, done = time.monotonic() + 60 * given.minutes, list[Point]()
    in_turn = tried if given.minutes == math.inf and not given.skip else spread(tried)[given.skip :]
    for number, point in enumerate(in_turn, 1):
        if time.monotonic() > until:
            break
        before = set(sums.faults())
        how(point, sums)
        done.append(point)
        for line in sums.faults():
            if line not in before:
                _tell(line)
        if number % 20 == 0:
            _tell(f"{command}: {number} of {len(in_turn)}: {sums.counts()}")
    covered = len(done) if anew else len([point for point in wanted if point.state in {one.state for one in done}])
    kind = "full disk" if given.full else "killed" if given.real else "left by a kill"
    return {"how": kind, "points": there, "kinds": kinds, "states": states, "covered": covered}


def spread(points: Sequence[Point]) -> list[Point]:
    """The same in an order in which those up to any place lie evenly over the whole (van der Corput's)."""
    bits = len(points).bit_length()
    return [points[at] for at in (int(f"{number:0{bits}b}"[::-1], 2) for number in range(1 << bits)) if at < len(points)]


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="")
    main()
