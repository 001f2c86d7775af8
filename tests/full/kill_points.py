"""Kill a command at every one of its file operations, begin it again, and hold what is there then against a command that was never stopped.

`python -m tests.full.kill_points COMMAND [FIRST [LAST [STEP]]] [--full]`: COMMAND is lora, lora-offline, stargan, encode, evaluate,
sync, sweep or suite; without numbers all of its operations. With --full the disk is full from that operation on, the command must
say so in a line, and goes on when there is space again. Prints a line for each that differs, and the sums.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from safetensors.torch import load_file, save

from tests.runs.faults import DIED, faults
from tests.runs.forked import fork_studies, forked
from tests.runs.run_tree import PARENT, leaves, tree
from tests.runs.small_studies import EMBEDDED, SMALL

OWN = ("--base", "embedded", "--encoder", "embedded", "--train_data_dir", "train", "--references", "held")
"""Pictures of one's own on the embedded base."""
LORA = (
    *("train", "lora", *OWN, "--steps", "3", "--rank", "2", "--seed", "3"),
    *("--output-dir", "out", "--set", "training.log_every=1", "--set", "training.save_every_n_steps=2"),
    *("--set", "evaluation.num_inference_steps=1", "--set", "evaluation.images_per_reference=1"),
    *("--set", "evaluation.resamples=10", "--set", "evaluation.prompts=none", "--set", "evaluation.extra_metrics=[]"),
)
STARGAN = (
    *("train", "stargan", "--latents_dir", "latents", "--base_dim", "8", "--n_res_blocks", "2", "--d_layers", "1"),
    *("--mapping_hidden_dim", "16", "--batch_size", "4", "--epochs", "2", "--grid_every_n_epochs", "1", "--seed", "5"),
    *("--output-dir", "out", "--set", "evaluation.contents_per_domain=2", "--set", "evaluation.resamples=10"),
    *("--set", "evaluation.styles=2", "--set", "data.validation_split=0.3"),
)
RESUME = ("--resume",)
_NOT_BEGUN = "no run has begun in"


@dataclass(frozen=True)
class Scenario:
    """A command, what is there before it, and how it is begun again."""

    command: tuple[str, ...]
    prepare: Callable[[Path], None]
    resumes: bool = False
    """Whether it is begun again with --resume; else as it is."""
    outputs: tuple[str, ...] = ("out",)
    """Folders whose files are compared."""


@dataclass
class Sums:
    """What was found over all points."""

    points: int = 0
    stuck: list[str] = field(default_factory=list)
    """Not brought to an end by beginning it again."""
    unlike: list[str] = field(default_factory=list)
    """Something lost, doubled or unequal."""
    left_over: list[str] = field(default_factory=list)
    """Temporary files."""

    def __str__(self) -> str:
        found = {"stuck": self.stuck, "unlike": self.unlike, "left over": self.left_over}
        return f"{self.points} points: " + ", ".join(f"{len(some)} {name}" for name, some in found.items())


def pictures(folder: Path) -> None:
    """Four garments to train on, two others as references, and two domains of them."""
    from fashion_ml.embedded.garments import Garment, render

    for place, first, count in (
        ("train/1_dress", 0, 4),
        ("held", 9, 2),
        ("images/plain", 0, 4),
        ("images/striped", 0, 4),
    ):
        (folder / place).mkdir(parents=True)
        pattern = "striped" if place.endswith("striped") else "plain"
        for number in range(first, first + count):
            colour = ("red", "blue")[number % 2]
            render(Garment("dress", colour, pattern, seed=number)).save(folder / place / f"{number}.png")
            (folder / place / f"{number}.txt").write_text(f"a {colour} dress")


def encoded(folder: Path) -> None:
    """Pictures, and their latents."""
    pictures(folder)
    _must("encode", "images", "latents", folder=folder)


def trained(folder: Path) -> None:
    """A LoRA that was trained and not evaluated."""
    pictures(folder)
    _must(*LORA, "--no-evaluate", folder=folder)


def trained_offline(folder: Path) -> None:
    """A LoRA that was trained and evaluated, and not sent."""
    pictures(folder)
    _must(*LORA, "--offline", folder=folder)


_STUDY: dict[str, Any] = {
    "name": "small",
    "trainer": "lora",
    "experiment": EMBEDDED,
    "settings": {
        **SMALL,
        "data.train_data_dir": "train",
        "evaluation.references": "held",
        "evaluation.resamples": 10,
        "evaluation.max_references": 6,
        "evaluation.rotations": 0,
        "evaluation.without": ["fashion_clip"],
    },
    "heartbeat_seconds": 1,
}


def sweep_file(folder: Path) -> None:
    """Pictures, and a sweep of two trials."""
    pictures(folder)
    search = {"optimizer.learning_rate": {"type": "categorical", "choices": [1e-4, 1e-2]}}
    more = {"search_space": search, "sampler": {"name": "grid"}, "trials": 2, "confirm": {"best": 0}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump({**_STUDY, **more, "objectives": [{"metric": "visual_loss"}]}))


def suite_file(folder: Path) -> None:
    """Pictures, and a suite of two recipes with three seeds."""
    pictures(folder)
    recipes = {"rank 2": {"settings": {"rank": 2}}, "fast": {"settings": {"lr": 1e-2}}}
    more = {"recipes": recipes, "metric": "visual_loss", "seeds": [0, 1, 2]}
    (folder / "suite.yaml").write_text(yaml.safe_dump({**_STUDY, **more}, sort_keys=False))


SCENARIOS = {
    "lora": Scenario(LORA, pictures, resumes=True),
    "lora-offline": Scenario((*LORA, "--offline"), pictures, resumes=True),
    "stargan": Scenario(STARGAN, encoded, resumes=True),
    "encode": Scenario(("encode", "images", "latents"), pictures, outputs=("latents",)),
    "evaluate": Scenario(("evaluate", "run", "latest", "--output-dir", "evaluated"), trained, outputs=("evaluated",)),
    "sync": Scenario(("sync", "out"), trained_offline),
    "sweep": Scenario(("sweep", "sweep.yaml", "--workers", "1"), sweep_file, outputs=("outputs/sweeps/small",)),
    "suite": Scenario(("suite", "suite.yaml", "--workers", "1"), suite_file, outputs=("outputs/suites/small",)),
}


class Harness:
    """One scenario in a folder of its own."""

    def __init__(self, name: str, folder: Path, store: Path):
        self.scenario, self._work, self._template = SCENARIOS[name], folder / "work", folder / "template"
        self._store = store
        self._number = 0
        self._work.mkdir()
        shutil.copy(store, self._work / "mlflow.db")
        self.scenario.prepare(self._work)
        shutil.copytree(self._work, self._template, symlinks=True)
        self._renew()
        note = folder / "count.txt"
        code, said = self._run(self.scenario.command, partial(faults, self._work, note, 0, "count"))
        assert code == 0, said
        self.operations = int(note.read_text())
        self.whole = self._facts()

    def point(self, at: int, sums: Sums, how: str = "kill") -> None:
        """Kill it at operation `at`, or let the disk be full from there, begin it again, and compare."""
        self._renew()
        note = self._work.parent / "note.txt"
        note.write_text("")
        code, said = self._run(self.scenario.command, partial(faults, self._work, note, at, how))
        where = note.read_text().strip() or f"{at} not reached"
        sums.points += 1
        if how == "kill" and code not in (0, DIED):
            sums.stuck.append(f"{where}: ended by itself: {said[-300:]}")
        if how == "full" and (code not in (0, 2) or "Traceback" in said):
            sums.stuck.append(f"{where}: a full disk is no line: {said[-600:]}")
        code, said = self._again()
        if code != 0:
            sums.stuck.append(f"{where}: {code}: {said[-600:]}")
            return
        now = self._facts()
        sums.unlike += [f"{where}: {line}" for line in _differences(self.whole, now)]
        left = [str(path.relative_to(self._work)) for path in self._work.rglob(".*.tmp")]
        left += [str(path.relative_to(self._work)) for path in self._work.rglob(".lock")]
        sums.left_over += [f"{where}: {path}" for path in left]

    def _again(self) -> tuple[int, str]:
        """As its user would: go on, or begin where nothing has begun; then close what is left open."""
        command = self.scenario.command
        code, said = self._run((*command, *RESUME) if self.scenario.resumes else command)
        if self.scenario.resumes and code == 2 and _NOT_BEGUN in said:
            code, said = self._run(command)
        elif self.scenario.resumes and code == 2 and "is finished; give more" in said:
            code = 0
        if code == 0 and "--offline" not in command:
            self._run(("doctor", "--close-runs"))
        return code, said

    def _renew(self) -> None:
        shutil.rmtree(self._work)
        shutil.copytree(self._template, self._work, symlinks=True)

    def _run(self, command: Sequence[str], before: Callable[[], object] | None = None) -> tuple[int, str]:
        return forked(*command, cwd=self._work, uri=f"sqlite:///{self._work / 'mlflow.db'}", before=before or fork_studies)

    def _facts(self) -> dict[str, Any]:
        """Everything that must be equal."""
        found: dict[str, Any] = {}
        for name in self.scenario.outputs:
            folder = self._work / name
            files = sorted(
                str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"
            )
            found[f"files of {name}"] = sorted({_without_times(file) for file in files if not file.startswith("spool/")})
            for path in sorted((*folder.rglob("*.safetensors"), *folder.rglob("*.pt"))):
                found[f"bits of {name}/{_without_times(str(path.relative_to(folder)))}"] = _bits(path)
            for path in folder.glob("training_logs/training_loss_log.txt"):
                found["loss log"] = re.sub(r"\d{4}-\d{2}-\d{2}.\d{2}:\d{2}:\d{2}\S*", "", path.read_text())
            note = folder / "run.json"
            if note.is_file():
                found[f"finished {name}"] = json.loads(note.read_text())["finished"]
        return found | self._of_store()

    def _of_store(self) -> dict[str, Any]:
        """The runs: whole ones as trees; of others only that they are ended and empty."""
        self._number += 1
        copy = self._work.parent / f"store{self._number}.db"
        shutil.copy(self._work / "mlflow.db", copy)
        client, found = MlflowClient(f"sqlite:///{copy}"), dict[str, Any]()
        there = [one.experiment_id for one in client.search_experiments()]
        roots = [run for run in client.search_runs(there) if PARENT not in run.data.tags]
        whole = [run for run in roots if run.info.status == "FINISHED"]
        found["whole runs"] = len(whole)
        found["runs that are neither whole nor empty"] = [
            (run.info.status, sorted(run.data.metrics))
            for run in roots
            if run not in whole and (run.info.status != "KILLED" or run.data.metrics or run.data.params)
        ]
        for number, run in enumerate(sorted(whole, key=lambda one: one.info.start_time)):
            for name, key, value in leaves(tree(client, run.info.run_id)):
                found[f"run {number}, {name}, {key}"] = value
        copy.unlink()
        return found


def _without_times(name: str) -> str:
    name = re.sub(r"_\d{8}_\d{6}", "", name)
    return re.sub(r"tfevents\S*", "tfevents", name)


def _bits(path: Path) -> str:
    """Of the tensors: a state's header tells seconds."""
    content = save(load_file(path)) if path.suffix == ".safetensors" else path.read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]


def _differences(whole: dict[str, Any], now: dict[str, Any]) -> list[str]:
    lines = []
    for key in sorted(whole.keys() | now.keys()):
        first, second = whole.get(key), now.get(key)
        if first == second:
            continue
        if isinstance(first, dict) and isinstance(second, dict):
            lines += [f"{key} {name}: {first.get(name)} and {second.get(name)}" for name in sorted(first.keys() | second.keys())
                      if first.get(name) != second.get(name)]  # fmt: skip
        elif isinstance(first, list) and isinstance(second, list):
            lines.append(f"{key}: lost {[one for one in first if one not in second]}, more {[one for one in second if one not in first]}, "
                         f"{len(first)} and {len(second)}")  # fmt: skip
        else:
            lines.append(f"{key}: {first} and {second}")
    return [line[:400] for line in lines]


def _must(*command: str, folder: Path) -> None:
    code, said = forked(*command, cwd=folder, uri=f"sqlite:///{folder / 'mlflow.db'}")
    assert code == 0, said


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=SCENARIOS)
    parser.add_argument("numbers", type=int, nargs="*")
    parser.add_argument("--full", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        store = Path(name) / "mlflow.db"
        MlflowClient(f"sqlite:///{store}").search_experiments()
        harness, sums = Harness(given.command, Path(name), store), Sums()
        first, last, step = _range(given.numbers, harness.operations)
        _tell(f"{given.command}: {harness.operations} operations")
        for at in range(first, min(last, harness.operations) + 1, step):
            before = len(sums.stuck), len(sums.unlike), len(sums.left_over)
            harness.point(at, sums, "full" if given.full else "kill")
            for kind, some, count in zip(
                ("STUCK", "UNLIKE", "LEFT"), (sums.stuck, sums.unlike, sums.left_over), before, strict=True
            ):
                for line in some[count:]:
                    _tell(f"{kind} {line}")
        _tell(f"{given.command}: {sums}")
    sys.exit(bool(sums.stuck or sums.unlike or sums.left_over))


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _range(numbers: Sequence[int], operations: int) -> tuple[int, int, int]:
    first, last, step = (*numbers, *(1, operations, 1)[len(numbers) :])
    return first, last, step


if __name__ == "__main__":
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="")
    main()
