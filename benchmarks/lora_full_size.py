"""LoRA training at Stable Diffusion 1.5's size, ours beside the peers: `python -m benchmarks.lora_full_size [--example PATH] [--kohya PATH]`.

Random weights of SD 1.5's architecture, 256 px, batch 1, rank 32, float32 unless `--resolution`, `--batch` and `--precision` say otherwise, the
same images; every command runs as users run it, in turns, and logs every step. The figure is the median of seconds between two steps, after
the first few. `--example` is diffusers' `train_text_to_image_lora.py` (attention targets), `--kohya` a checkout of sd-scripts (its 192
modules, latents cached, text encoder off); `--example-python` and `--kohya-python` name interpreters that have what these need. 12 GiB of
memory and 5 GB of disk.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.lora_step import random_sd15, write_photos
from benchmarks.peers import Task, Trained, add_options, at_least, example, given, kohya, ours
from benchmarks.results import Row, report
from fashion_ml.runtime.console import say

RANK, FIRST = 32, 2


def main() -> None:
    """Measure in turns, report medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--base", type=Path)
    for name, default in (("steps", 8), ("rounds", 2), ("resolution", 256), ("batch", 1)):
        parser.add_argument(f"--{name}", type=at_least(1), default=default)
    parser.add_argument("--precision", choices=("no", "fp16", "bf16"), default="no")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        base = arguments.base
        if base is None:
            base = place / "base"
            random_sd15().save_pretrained(base)
        images, side, steps = write_photos(place / "images", 8, 512), arguments.resolution, FIRST + arguments.steps
        task = Task(base.absolute(), images, side, arguments.batch, steps, RANK, precision=arguments.precision)
        sides: dict[str, Callable[[Path], Trained]] = {"ours, attention": lambda at: ours(task, at)}
        if diffusers := given(arguments, "example"):
            sides["diffusers' example"] = lambda at: example(diffusers, task, at)
        sides["ours, 192 modules"] = lambda at: ours(task, at, targets="kohya")
        if scripts := given(arguments, "kohya"):
            sides["kohya"] = lambda at: kohya(scripts, task, at)
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        peaks = dict.fromkeys(sides, 0.0)
        for turn in range(arguments.rounds):
            for number, (side, run) in enumerate(sides.items()):
                at = place / f"{turn}-{number}"
                at.mkdir()
                try:
                    trained = run(at)
                except SystemExit as error:  # the others are measured all the same
                    say(f"{side}: {error}")
                    continue
                times = trained.times
                seconds[side] += [after - before for before, after in zip(times[FIRST - 1 :], times[FIRST:], strict=False)]
                peaks[side] = max(peaks[side], trained.peak)
    median = {side: statistics.median(values) for side, values in seconds.items() if values}
    precision = "float32" if arguments.precision == "no" else arguments.precision
    what = f"SD 1.5's size, {arguments.resolution} px, batch {arguments.batch}, rank {RANK}, {precision}"
    rows = []
    for mine, peer in (("ours, attention", "diffusers' example"), ("ours, 192 modules", "kohya")):
        if mine not in median:
            continue
        targets, there = mine.removeprefix("ours, "), peer in median
        beside = f"{peer} {median[peer]:.3f} s a step" if there else ""
        rows.append(
            Row(f"{what}, {targets}", f"{median[mine]:.3f} s a step", beside, median[peer] / median[mine] if there else None)
        )
        beside = f"{peer} {peaks[peer]:.0f} MiB" if there else ""
        rows.append(Row(f"the same, {targets}, memory at its most", f"{peaks[mine]:.0f} MiB", beside))
    report(rows)


if __name__ == "__main__":
    main()
