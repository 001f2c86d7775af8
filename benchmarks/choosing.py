"""What `evaluate choose` saves, and whether it finds what the full grid finds: `python -m benchmarks.choosing [--run FOLDER] [--seeds N]`.

A LoRA of the embedded base with four kept files (trained here without --run) at three strengths, for several seeds of the images. The grid is
measured whole beside the choice. Printed are the images of both, the winner, the grid's best, and how much worse the winner is over all
references, with its interval: within the noise where that holds 0.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import at_least
from fashion_ml.config import LoraExperiment, load_config
from fashion_ml.evaluation.choose import Candidate, choose
from fashion_ml.evaluation.choose_images import Losses, with_small_batches
from fashion_ml.evaluation.lora_plan import plan_evaluation
from fashion_ml.metrics.bootstrap import bootstrap_mean
from fashion_ml.models.kohya_format import read_metadata
from fashion_ml.runs.inputs import read_sources
from fashion_ml.runtime.console import say, show_lines

STRENGTHS = (0.6, 0.8, 1.0)


def train(folder: Path) -> None:
    """500 steps with a file every 125."""
    command = [sys.executable, "-m", "fashion_ml", "train", "lora", "--no-evaluate", "--save-every-n-steps", "125"]
    subprocess.run([*command, "--output-dir", str(folder)], check=True, cwd=folder.parent)


def kept(folder: Path) -> list[tuple[int, Path]]:
    """The files of a training, one for each step."""
    files = [path for path in sorted(folder.glob("*.safetensors")) if path.stem not in ("best", "best_measured")]
    return sorted({int(read_metadata(path)["ss_steps"]): path for path in files}.items())


def losses_of(config: LoraExperiment, files: Sequence[tuple[int, Path]], place: Path) -> Losses:
    """What measures the files' images, which go to `place`."""
    inputs = read_sources(config, training_images=False)
    config = with_small_batches(config, len(inputs.references))
    assert inputs.suite is not None
    plan = plan_evaluation(config, files[0][1], inputs.references, [], inputs.suite, "cpu")
    return Losses(plan, {path.name: path for _, path in files}, place)


def one_seed(config: LoraExperiment, files: Sequence[tuple[int, Path]], place: Path) -> dict[str, Any]:
    """The choice, then the rest of the grid, which finds the choice's images."""
    losses = losses_of(config, files, place)
    candidates = [Candidate(path.name, step, strength) for step, path in files for strength in STRENGTHS]
    each = config.evaluation.images_per_reference
    choice = choose(candidates, losses.units, losses.score)
    references = list(range(len(losses.plan.references)))
    grid: Mapping[Candidate, Mapping[int, float]] = {one: losses.score(one, references) for one in candidates}
    means = {one: sum(grid[one].values()) / len(references) for one in candidates}
    best = min(means, key=lambda one: means[one])
    worse = bootstrap_mean([grid[choice.winner][index] - grid[best][index] for index in references])
    return {
        "seed": config.evaluation.seed,
        "images": f"{choice.measured * each} of {choice.whole * each} ({choice.measured / choice.whole:.0%})",
        "chosen": f"{choice.winner} ({means[choice.winner]:.4f}), {len(choice.tied)} not to be told apart",
        "grid": f"{best} ({means[best]:.4f})",
        "worse": f"{worse.mean:+.4f}" + (f" [{worse.ends[0]:+.4f}, {worse.ends[1]:+.4f}]" if worse.ends else ""),
        "said": choice.sentence(losses.metric),
    }


def main() -> None:
    """Print a row for each seed of the images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="folder of a LoRA training of the embedded base with several kept files")
    parser.add_argument("--seeds", type=at_least(1), default=3)
    parser.add_argument("--steps", type=at_least(1), default=25, help="sampler steps")
    parser.add_argument("--images", type=at_least(1), default=2, help="images of each reference")
    parser.add_argument("--keep", type=Path, help="folder for the images, which are used again when it is called again")
    given = parser.parse_args()
    show_lines()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.run or Path(temporary) / "run"
        if given.run is None:
            train(folder)
        few = {"num_inference_steps": given.steps, "images_per_reference": given.images, "extra_metrics": []}
        for seed in range(given.seeds):
            settings = {f"evaluation.{name}": value for name, value in {**few, "seed": seed, "enabled": True}.items()}
            place = (given.keep or Path(temporary)) / f"seed_{seed}"
            row = one_seed(load_config(folder / "config.yaml", settings), kept(folder), place)
            for name, value in row.items():
                say(f"{name:8} {value}")


if __name__ == "__main__":
    main()
