"""Large amounts through the real commands: `python -m benchmarks.load [--part PART] [--images N] [--points N] [--trainings N] [--steps N]`.

Four parts. `images`: a LoRA training on the embedded base with so many images of different sizes in four `N_class` folders, each with
a caption of its own, from the command to its first logged step: latents encoded at every step. Before it, what importing the libraries alone
takes, of which a training uses something before that step. `kept`: the same with latents in data.cache_dir, which an earlier start has
filled: minutes. `points`: so many metric points written to an outbox, ten a step as a training writes them, and then sent to
a new sqlite store by `fashion-ml sync`. `together`: six trainings at once on one sqlite store. Points are counted by run, metric and step:
what is lost and what is there twice are two figures.

Each command is a process of its own. Beside the wall time stands its processor time, which other work on the machine changes less. Both and the
memory are those of the command with the processes that it starts; of the memory, pages of files that are mapped, the libraries' own, are
named apart: the system takes them back where it needs room.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.peers import at_least
from benchmarks.results import Row, report

_MIB = 2**20
_METRICS = 10
_CHILDREN_EVERY = 0.5
"""Seconds between two looks at which processes a command has started."""
_CLASSES = ("2_dress", "1_shirt", "3_coat", "1_skirt")
_STEP = "torch,torch._dynamo"
_LIBRARIES = {
    "torch with what the first step of any of its optimisers imports": _STEP,
    "that, peft, diffusers' UNet and VAE, transformers' CLIP, accelerate, and MLflow with its sqlite store": ",".join(
        (
            _STEP,
            "peft",
            "accelerate",
            "transformers.models.clip.modeling_clip",
            "diffusers.models.unets.unet_2d_condition",
            "diffusers.models.autoencoders.autoencoder_kl",
            "mlflow.store.tracking.sqlalchemy_store",
        )
    ),
}
"""What a training uses before its first step, whatever its code does, and the modules."""
_PROJECT = Path(__file__).parents[1]
_CONFIG = _PROJECT / "experiments" / "lora" / "embedded.yaml"


@dataclass(frozen=True)
class Used:
    """What a command took until it was looked at, or ended."""

    wall: float
    """Seconds."""
    processor: float
    """Seconds, of all its threads and of its processes, user and system."""
    peak: float
    """Resident at its most, its processes too, MiB."""
    mapped: float = 0.0
    """Of that, pages of files, MiB."""

    def shown(self) -> str:
        """For a row."""
        of_files = f", of which {self.mapped:.0f} are mapped files" if self.mapped else ""
        return f"{self.wall:.1f} s ({self.processor:.1f} s of processor time), {self.peak:.0f} MiB at its most{of_files}"


def write_images(folder: Path, count: int) -> None:
    """So many small JPEG files of different sizes, 48 to 159 pixels, in four class folders, each with a caption of its own."""
    rng = np.random.default_rng(0)
    for name in _CLASSES:
        (folder / name).mkdir(parents=True)
    for number in range(count):
        width, height = (int(side) for side in rng.integers(48, 160, 2))
        path = folder / _CLASSES[number % len(_CLASSES)] / f"{number:06d}.jpg"
        Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((width, height)).save(path, quality=85)
        path.with_suffix(".txt").write_text(f"a garment number {number}", encoding="utf-8")


def used(command: Sequence[str], folder: Path, until: Callable[[], bool] | None = None) -> Used:
    """Run a command in a folder to its end, or until something is so and then stop it. SystemExit where it fails."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": _store(folder), "PYTHONPATH": str(_PROJECT)}
    start, log = time.perf_counter(), folder / "log.txt"
    with log.open("ab") as file:
        process = psutil.Popen([sys.executable, "-m", *command], cwd=folder, env=environment, stdout=file, stderr=file)
    (peak, mapped), processor, met = (0.0, 0.0), 0.0, False
    children, looked = list[psutil.Process](), 0.0
    while process.poll() is None and not met:
        with suppress(psutil.Error):
            processor = sum(process.cpu_times()[:4])  # of those that have ended, too
            if time.perf_counter() - looked > _CHILDREN_EVERY:  # which asks for every process of the machine
                children, looked = _started_by(process), time.perf_counter()
            peak, mapped = max((peak, mapped), _memory([process, *children]))
        met = until is not None and until()
        time.sleep(0.02)
    wall = time.perf_counter() - start
    met = met or (until is not None and until())  # it may have ended between two looks
    if met:
        process.terminate()
        process.wait()
    elif process.returncode or until is not None:
        raise SystemExit(f"{' '.join(command)}: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
    return Used(wall, processor, peak, mapped)


def _started_by(process: psutil.Process) -> list[psutil.Process]:
    """Its processes, without those that have not begun to be another program: until then they are the same memory once more."""
    found, own = list[psutil.Process](), process.cmdline()
    for one in process.children(recursive=True):
        with suppress(psutil.Error):
            found += [one] if one.cmdline() != own else []
    return found


def _memory(processes: Sequence[psutil.Process]) -> tuple[float, float]:
    """What processes have resident together, and what of it are pages of files, MiB."""
    found = [0, 0]
    for one in processes:
        with suppress(psutil.Error):  # it has just ended
            memory = one.memory_info()
            found = [found[0] + memory.rss, found[1] + memory.shared]
    return found[0] / _MIB, found[1] / _MIB


def _store(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


def _training(*more: str, steps: int = 2000) -> list[str]:
    command = ["fashion_ml", "train", "lora", "--config", str(_CONFIG), "--log_every", "1", "--steps", str(steps)]
    return [*command, "--no-evaluate", *more]


def start(folder: Path, *options: str) -> Used:
    """What a training on the folder's images takes to its first step."""
    number = len(list(folder.glob("out*")))
    spool = folder / f"out{number}" / "spool" / "operations.jsonl"
    given = ["--train-data-dir", "images", "--output-dir", f"out{number}", *options]
    return used(_training(*given), folder, lambda: spool.is_file() and b'["total_loss",' in spool.read_bytes())


def over_images(count: int) -> list[Row]:
    """The libraries alone, and starts with few images and with so many."""
    rows = []
    for what, modules in _LIBRARIES.items():
        with tempfile.TemporaryDirectory() as name:
            taken = used(["benchmarks.importing", modules], Path(name), (Path(name) / "done").exists)
            rows.append(Row(f"importing {what} alone", taken.shown()))
    for some in (100, count):
        with tempfile.TemporaryDirectory() as name:
            folder = _with_images(Path(name), some)
            rows.append(Row(f"{_start_with(some)}, latents not kept", start(folder, "--cache_latents", "false").shown()))
    return rows


def over_kept_images(count: int) -> list[Row]:
    """Starts with few images and with so many whose latents are kept."""
    rows = []
    for some in (100, count):
        with tempfile.TemporaryDirectory() as name:
            folder = _with_images(Path(name), some)
            start(folder, "--cache_dir", "cache")
            rows.append(Row(f"{_start_with(some)}, latents in data.cache_dir", start(folder, "--cache_dir", "cache").shown()))
    return rows


def _start_with(images: int) -> str:
    return f"LoRA training with {images} images, each with a caption of its own, to its first step"


def _with_images(folder: Path, count: int) -> Path:
    """A folder with so many images, a store, and the programs' files in memory."""
    write_images(folder / "few", len(_CLASSES))
    start(folder, "--steps", "1", "--train-data-dir", "few")
    write_images(folder / "images", count)
    return folder


def over_points(count: int) -> list[Row]:
    """Writing an outbox, and sending it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = used(["benchmarks.load", "--write", str(count)], folder)
        cost = json.loads((folder / "cost.json").read_text(encoding="utf-8"))
        sent = used(["fashion_ml", "sync", "out"], folder)
        found = counted(folder, 1, count // _METRICS, [f"metric_{number}" for number in range(_METRICS)])
    what = f"{count} metric points, ten a step"
    return [
        Row(f"{what}, written to an outbox", f"{written.shown()}; a point {cost:.1f} us in the loop"),
        Row(f"{what}, sent to sqlite by fashion-ml sync", f"{sent.shown()}; {found.shown()}"),
    ]


def write_points(count: int) -> None:
    """An offline run with so many points in `out`, as a training leaves it; in `cost.json` the median of what a point costs, us."""
    from fashion_ml.runs.run_folder import RunFolder, write_run_folder
    from fashion_ml.tracking.offline_client import pending_id
    from fashion_ml.tracking.run import open_offline_run

    folder, run_id, costs = Path("out"), pending_id(), list[float]()
    folder.mkdir()
    about = {"kind": "train_lora"}
    with open_offline_run("load", about, folder, run_id, experiment="benchmarks", chosen=(), resume=False) as run:
        for step in range(1, count // _METRICS + 1):
            values = {f"metric_{number}": step / (number + 1) for number in range(_METRICS)}
            begin = time.perf_counter()
            run.log_metrics(values, step=step)
            costs.append(time.perf_counter() - begin)
    write_run_folder(RunFolder(folder, run_id, "", "digest", finished=True))
    Path("cost.json").write_text(json.dumps(1e6 * statistics.median(costs) / _METRICS), encoding="utf-8")


@dataclass(frozen=True)
class Counted:
    """What a store has of what was logged."""

    runs: int
    lost: int
    """Points that no run has, those of runs that are missing too."""
    doubled: int
    """Points that a run has more than once, each time more."""
    other: int
    """Points of steps that nobody logged, and of runs beyond those that there were."""

    def shown(self) -> str:
        """For a row."""
        return f"{self.runs} runs, {self.lost} points lost, {self.doubled} doubled, {self.other} of steps that were not"


def counted(folder: Path, runs: int, steps: int, metrics: Sequence[str]) -> Counted:
    """Of so many trainings that each logged these metrics at every step from 1 on, run by run: one doubled point makes no lost one good."""
    import mlflow

    client = mlflow.MlflowClient(_store(folder))
    there = [one.experiment_id for one in client.search_experiments()]
    found = client.search_runs(there, "tags.kind = 'train_lora'")
    lost, doubled, other = max(runs - len(found), 0) * steps * len(metrics), 0, 0
    for number, run in enumerate(found):
        for key in metrics:
            times = Counter(point.step for point in client.get_metric_history(run.info.run_id, key))
            own = Counter({step: times[step] for step in range(1, steps + 1)}) if number < runs else Counter[int]()
            lost += (steps if number < runs else 0) - sum(1 for count in own.values() if count)
            doubled += sum(count - 1 for count in own.values() if count)
            other += times.total() - own.total()
    return Counted(len(found), lost, doubled, other)


def together(trainings: int, steps: int) -> list[Row]:
    """Trainings that begin at once on one store, which is new."""
    import mlflow

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "MLFLOW_TRACKING_URI": _store(folder), "PYTHONPATH": str(_PROJECT), "OMP_NUM_THREADS": "1"}
        start, processes = time.perf_counter(), []
        for number in range(trainings):
            command = [sys.executable, "-m", *_training("--output-dir", f"out{number}", steps=steps)]
            with (folder / f"log{number}.txt").open("wb") as file:
                processes.append(subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file))
        codes = [process.wait() for process in processes]
        wall = time.perf_counter() - start
        found = counted(folder, trainings, steps, ["total_loss"])
        client = mlflow.MlflowClient(_store(folder))
        there = [one.experiment_id for one in client.search_experiments()]
        statuses = [run.info.status for run in client.search_runs(there, "tags.kind = 'train_lora'")]
    return [
        Row(
            f"{trainings} LoRA trainings of {steps} steps at once on one new sqlite store",
            f"{wall:.0f} s; of {trainings * steps} points: {found.shown()}; {statuses.count('FINISHED')} runs FINISHED, "
            f"{codes.count(0)} commands ended well",
        )
    ]


def main() -> None:
    """Report what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("images", "kept", "points", "together")
    parser.add_argument("--part", action="append", choices=parts, help="what to measure; all by default")
    parser.add_argument("--images", type=at_least(4), default=20_000)
    parser.add_argument("--points", type=at_least(_METRICS), default=1_000_000)
    parser.add_argument("--trainings", type=at_least(1), default=6)
    parser.add_argument("--steps", type=at_least(1), default=40, help="of each of the trainings at once")
    parser.add_argument("--write", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write_points(arguments.write)
        return
    measured = {
        "images": lambda: over_images(arguments.images),
        "kept": lambda: over_kept_images(arguments.images),
        "points": lambda: over_points(arguments.points),
        "together": lambda: together(arguments.trainings, arguments.steps),
    }
    report([row for part in arguments.part or parts for row in measured[part]()])


if __name__ == "__main__":
    main()
