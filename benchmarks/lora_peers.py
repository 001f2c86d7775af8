"""LoRA training on the embedded base beside diffusers' example, in turns: `python -m benchmarks.lora_peers [--example PATH] [--seeds N]`.

PATH is `examples/text_to_image/train_text_to_image_lora.py` of a diffusers checkout; it needs the packages `datasets` and `tensorboard`. Both
commands run as users run them, with the same images, captions, batch, steps, resolution, rank and learning rate, and both log every
step (ours to MLflow in batches of ten, the example to TensorBoard). `--photo` is the side of the JPEG files; both train at 64 pixels, and
only the example opens the files again at every step. Speed is steps per second between the first and the last logged step; loss is the
mean over all steps and seeds. (kohya's script takes Stable Diffusion's own size alone: `benchmarks.lora_full_size`.)
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.lora_step import write_photos
from benchmarks.peers import Task, Trained, add_options, example, given, ours
from benchmarks.results import Row, report
from fashion_ml.embedded import EMBEDDED_DIR
from fashion_ml.runtime.console import say

IMAGES, RANK, RESOLUTION, LOG_EVERY = 48, 16, 64, 10


def speed(trained: Trained) -> float:
    """Steps per second."""
    return (len(trained.times) - 1) / (trained.times[-1] - trained.times[0])


def _loss(all_of: list[Trained]) -> str:
    values = [value for trained in all_of for value in trained.losses]
    error = statistics.stdev(values) / len(values) ** 0.5
    return f"mean total_loss {statistics.fmean(values):.4f} ± {error:.4f}"


def main() -> None:
    """Report the speeds, the losses and the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    for name, default in (("seeds", 3), ("steps", 300), ("batch", 4), ("photo", 1024)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    peer = given(arguments, "example")
    mine, theirs = list[Trained](), list[Trained]()
    with tempfile.TemporaryDirectory() as name:
        images = write_photos(Path(name) / "images", IMAGES, arguments.photo)
        (images / "10_garment").rename(images / "1_garment")  # an epoch is as long as the example's
        base = EMBEDDED_DIR / "stable_diffusion"
        task = Task(base, images, RESOLUTION, arguments.batch, arguments.steps, RANK)
        for seed in range(arguments.seeds):
            places = [Path(name) / f"{who}{seed}" for who in ("ours", "example")]
            for place in places:
                place.mkdir()
            if peer and seed % 2:
                theirs.append(example(peer, replace(task, seed=seed), places[1]))
            mine.append(ours(replace(task, seed=seed), places[0], log_every=LOG_EVERY))
            if peer and not seed % 2:
                theirs.append(example(peer, replace(task, seed=seed), places[1]))
            shown = f"seed {seed}: ours {speed(mine[-1]):.2f} steps/s"
            if peer:
                shown += f", the example {speed(theirs[-1]):.2f}, ratio {speed(mine[-1]) / speed(theirs[-1]):.2f}"
            say(shown)
    what = f"LoRA training, embedded, {RESOLUTION} px, batch {task.batch}, rank {RANK}, files of {arguments.photo} px"
    ratio = statistics.median(speed(m) / speed(t) for m, t in zip(mine, theirs, strict=True)) if theirs else None

    def figures(side: list[Trained]) -> tuple[str, str, str]:
        return (
            f"{statistics.median(map(speed, side)):.2f} steps/s",
            f"{max(trained.peak for trained in side):.0f} MiB",
            _loss(side),
        )

    beside = [f"diffusers' example {figure}" for figure in figures(theirs)] if theirs else [""] * 3
    rows = [Row(what, figures(mine)[0], beside[0], ratio)]
    rows += [Row(f"the same, {n}", figures(mine)[i], beside[i]) for i, n in ((1, "memory at its most"), (2, "loss"))]
    report(rows)


if __name__ == "__main__":
    main()
