"""Whether memory and steps stay as they are: `python -m benchmarks.scaling [--steps N] [--images N]`.

First a LoRA training on the embedded base of so many steps, in this process: resident memory and the time of a step, at its beginning and
at its end, and the slope of memory over the second half. Then data sets of 100 and of so many images: the time until they are ready, when they
are encoded and at the next start, the time of a batch, and memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path

import numpy as np
import psutil
from accelerate import Accelerator

from benchmarks.lora_step import write_photos
from benchmarks.results import Row, report
from fashion_ml.config import validate
from fashion_ml.data.captioned_images import read_training_folder
from fashion_ml.data.known_images import KnownImages
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.training.inputs import prepare_inputs
from fashion_ml.training.lora import Hooks, train_lora

_EVERY, _BATCHES = 100, 2000


def resident() -> float:
    """MiB of this process in memory."""
    return float(psutil.Process().memory_info().rss) / 2**20


def over_steps(steps: int) -> Row:
    """Memory and time of a long training."""
    memory, times = list[float](), array("d")  # 8 bytes a step: what is measured here must not grow by the measuring
    with tempfile.TemporaryDirectory() as name:
        folder = write_photos(Path(name) / "images", 16, 64)
        tree = {
            "data": {"train_data_dir": str(folder), "resolution": 64},
            "network": {"rank": 4},
            "training": {"max_train_steps": steps, "train_batch_size": 1, "log_every": _EVERY, "save_state": False},
        }
        config, accelerator, pipeline = validate(tree), Accelerator(), load_pipeline("embedded")
        inputs, _ = prepare_inputs(config, pipeline, read_training_folder(folder), [], accelerator)

        def rows(found: list[dict[str, float]]) -> None:
            times.extend(row["time"] for row in found)
            if found[-1]["step"] % _EVERY == 0:
                memory.append(resident())

        train_lora(config, pipeline, inputs, None, Path(name) / "out", Hooks(rows=rows), accelerator)
    half = memory[len(memory) // 2 :]
    slope, _ = np.polyfit(np.arange(len(half)) * _EVERY / 1000, half, 1)
    part = max(len(times) // 10, 2)
    first, last = (statistics.median(np.diff(piece)) * 1000 for piece in (times[part : 2 * part], times[-part:]))
    what = f"LoRA training of {steps} steps, embedded, batch 1"
    shown = f"{memory[0]:.0f} MiB at step {_EVERY}, {memory[len(memory) // 2]:.0f} half way, {memory[-1]:.0f} at the end"
    return Row(
        what, f"{shown} ({slope:+.2f} MiB per 1,000 steps in the second half); a step {first:.1f} ms early, {last:.1f} ms late"
    )


def over_images(count: int) -> Row:
    """What a data set of so many images costs: encoding it, and opening it again in another process."""
    with tempfile.TemporaryDirectory() as name:
        folder = write_photos(Path(name) / "images", 1, 64)
        (picture,) = folder.rglob("*.jpg")
        content, caption = picture.read_bytes(), picture.with_suffix(".txt").read_bytes()
        for index in range(1, count):  # other bytes, so that each is an image of its own
            path = picture.with_name(f"{index:06d}.jpg")
            path.write_bytes(content + index.to_bytes(4, "big"))
            path.with_suffix(".txt").write_bytes(caption)
        time.sleep(3)  # what changed a moment ago is looked at again
        command = [sys.executable, "-m", "benchmarks.scaling", "--open", name]
        first, then = (json.loads(subprocess.check_output(command).splitlines()[-1]) for _ in range(2))
    return Row(
        f"LoRA data set of {count} images, 64 px",
        f"encoded after {first['ready']:.1f} s; the next start is ready after {then['ready']:.1f} s (its images read and checked in "
        f"{then['read']:.1f} s); a batch of 4 {then['batch']:.2f} ms; {then['loaded']:.0f} MiB with the base loaded, "
        f"{then['memory']:.0f} MiB after {_BATCHES} batches ({first['memory']:.0f} MiB in the process that encoded)",
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
    ready, start = time.perf_counter() - start, time.perf_counter()
    for step in range(2, _BATCHES + 2):
        list(inputs.batches(step))
    batch = 1000 * (time.perf_counter() - start) / _BATCHES
    return {"read": read, "ready": ready, "batch": batch, "loaded": loaded, "memory": resident()}


def main() -> None:
    """Report both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.open:
        sys.stdout.write(json.dumps(open_images(arguments.open)) + "\n")
        return
    rows = [over_steps(arguments.steps)] if arguments.steps else []
    rows += [over_images(count) for count in (100, arguments.images) if arguments.images]
    report(rows)


if __name__ == "__main__":
    main()
