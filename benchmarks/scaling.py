"""Whether memory and steps stay as they are: `python -m benchmarks.scaling [--part PART] [--steps N] [--images N]`.

First trainings of so many steps, as users start them: a LoRA on the embedded base, and a StarGAN of small networks on the embedded domains.
For each resident memory and the time of a step, early and late, and the slope of memory over the second half with its standard
error. Then data sets of 100 and of so many images, with a thousand captions between them: the time until they are ready, when they are
encoded and at the next start, the time of a batch, and memory.
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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
from accelerate import Accelerator

from benchmarks.lora_step import write_photos
from benchmarks.peers import Task, at_least, logged, our_command
from benchmarks.results import Row, report
from fashion_ml.config import validate
from fashion_ml.data.image_index import KnownImages
from fashion_ml.data.images import read_training_folder
from fashion_ml.embedded import EMBEDDED_DIR
from fashion_ml.embedded.garments import sample_garments
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.training.lora_inputs import prepare_inputs

_BATCHES = 5000
_STEPS_PER_EPOCH = 162
"""Of the embedded domains: 648 training images in batches of 4."""


def resident() -> float:
    """MiB of this process in memory."""
    return float(psutil.Process().memory_info().rss) / 2**20


def long_lora(steps: int) -> Row:
    """Memory and time of a long training, as a user starts it, looked at from outside."""
    with tempfile.TemporaryDirectory() as name:
        folder = write_photos(Path(name) / "images", 16, 64)
        task = Task(EMBEDDED_DIR / "stable_diffusion", folder, resolution=64, batch=1, steps=steps, rank=4)
        seen = _watched(our_command(task, Path(name), log_every=10), Path(name))
        ended = np.array(logged(Path(name), _store(Path(name)), steps)[0])
    return _grown(f"LoRA training of {steps} steps, embedded, batch 1", seen, ended, 1)


def long_stargan(steps: int) -> Row:
    """The same of a StarGAN of small networks, so that many steps take minutes; all beside them is as always, grids every ten epochs."""
    import mlflow  # not at the top: opening a data set, below, is measured without it

    with tempfile.TemporaryDirectory() as name:
        epochs = -(-steps // _STEPS_PER_EPOCH)
        command = [sys.executable, "-m", "fashion_ml", "train", "stargan", "--epochs", str(epochs), "--no-evaluate"]
        command += ["--base_dim", "8", "--n_res_blocks", "1", "--batch-size", "4", "--ds_decay_epochs", str(epochs)]
        command += ["--output-dir", "out", "--json", "facts.json"]
        seen = _watched(command, Path(name))
        facts = json.loads((Path(name) / "facts.json").read_text(encoding="utf-8"))
        assert facts["steps"] == epochs * _STEPS_PER_EPOCH
        history = mlflow.MlflowClient(_store(Path(name))).get_metric_history(facts["run_id"], "g_loss")
        ended = np.array(sorted(point.timestamp / 1000 for point in history))
    what = f"StarGAN training of {facts['steps']} steps, base_dim 8, batch 4, 4 x 16 x 16, lambda_ds > 0"
    return _grown(what, seen, ended, _STEPS_PER_EPOCH)


def _store(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


def _watched(command: list[str], folder: Path) -> list[tuple[float, float]]:
    """Run to the end; time and resident memory, MiB, every second."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": _store(folder)}
    process = psutil.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen = list[tuple[float, float]]()
    while process.poll() is None:
        with suppress(psutil.Error):
            seen.append((time.time(), process.memory_info().rss / 2**20))
        time.sleep(1)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return seen


def _grown(what: str, seen: list[tuple[float, float]], ended: np.ndarray, apart: int) -> Row:
    """Memory over steps, and the time of a step early and late; `ended` are the times at which every `apart` steps were done."""
    moments, memory = np.array([pair for pair in seen if ended[0] < pair[0] < ended[-1]]).T
    at = np.interp(moments, ended, apart * np.arange(1, len(ended) + 1)) / 1000
    half = at > at[-1] / 2
    (slope, _), covariance = np.polyfit(at[half], memory[half], 1, cov=True)
    seconds, part = np.diff(ended) * 1000 / apart, len(ended) // 10
    first, last = statistics.median(seconds[part : 2 * part]), statistics.median(seconds[-part:])
    marks = [memory[0], memory[half][0], memory[-1], memory.max()]
    shown = "{:.0f} MiB at its beginning, {:.0f} half way, {:.0f} at its end, {:.0f} at its most".format(*marks)
    slope_said = f"{slope:+.2f} ± {covariance[0, 0] ** 0.5:.2f} MiB per 1,000 steps in the second half"
    return Row(what, f"{shown} ({slope_said}); a step {first:.1f} ms early, {last:.1f} ms late")


def over_images(count: int) -> Row:
    """What a data set of so many images costs: encoding it, and opening it again in another process."""
    with tempfile.TemporaryDirectory() as name:
        folder = write_photos(Path(name) / "images", 1, 64)
        (picture,) = folder.rglob("*.jpg")
        content, captions = picture.read_bytes(), [garment.caption() for garment in sample_garments(1000, seed=7)]
        for index in range(1, count):  # other bytes, so that each is an image of its own
            path = picture.with_name(f"{index:06d}.jpg")
            path.write_bytes(content + index.to_bytes(4, "big"))
            path.with_suffix(".txt").write_text(captions[index % len(captions)], encoding="utf-8")
        time.sleep(3)  # what changed a moment ago is looked at again
        command = [sys.executable, "-m", "benchmarks.scaling", "--open", name]
        first, then = (json.loads(subprocess.check_output(command).splitlines()[-1]) for _ in range(2))
    return Row(
        f"LoRA data set of {count} images of 64 px with data.cache_dir",
        f"encoded after {first['ready']:.1f} s; the next start is ready after {then['ready']:.1f} s (its images read and checked in "
        f"{then['read']:.1f} s); a batch of 4 {then['batch']:.2f} ms; {then['loaded']:.0f} MiB with the base loaded, "
        f"{then['opened']:.0f} MiB when ready, {then['memory']:.0f} MiB after {_BATCHES} batches "
        f"({first['memory']:.0f} MiB in the process that encoded)",
    )


def open_images(place: Path) -> dict[str, float]:
    """Open the data set in a folder, as a training does before its first step, and draw batches."""
    folder, cache = place / "images", place / "cache"
    tree = {
        "data": {"train_data_dir": str(folder), "resolution": 64, "cache_dir": str(cache)},
        "network": {"rank": 4},
        "training": {"max_train_steps": _BATCHES, "train_batch_size": 4, "log_every": 10, "save_state": False},
    }
    config, accelerator, pipeline = validate(tree), Accelerator(), load_pipeline("embedded")
    loaded, start = resident(), time.perf_counter()
    items = read_training_folder(folder, known=KnownImages(cache))
    read = time.perf_counter() - start
    inputs, _ = prepare_inputs(config, pipeline, items, [], accelerator)
    next(iter(inputs.batches(1)))  # draws the order of the first epoch
    ready, opened, start = time.perf_counter() - start, resident(), time.perf_counter()
    for step in range(2, _BATCHES + 2):
        list(inputs.batches(step))
    batch = 1000 * (time.perf_counter() - start) / _BATCHES
    return {"read": read, "ready": ready, "batch": batch, "loaded": loaded, "opened": opened, "memory": resident()}


def main() -> None:
    """Report what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--part", action="append", choices=("lora", "stargan", "images"), help="what to measure; all by default"
    )
    parser.add_argument("--steps", type=at_least(1000), default=20_000)
    parser.add_argument("--images", type=at_least(1), default=100_000)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.open:
        sys.stdout.write(json.dumps(open_images(arguments.open)) + "\n")
        return
    parts: dict[str, Callable[[], list[Row]]] = {
        "lora": lambda: [long_lora(arguments.steps)],
        "stargan": lambda: [long_stargan(arguments.steps)],
        "images": lambda: [over_images(count) for count in (100, arguments.images)],
    }
    report([row for part in arguments.part or parts for row in parts[part]()])


if __name__ == "__main__":
    main()
