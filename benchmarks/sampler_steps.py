"""How few sampler steps still rank LoRAs alike: `python -m benchmarks.sampler_steps [--loras N] [--references N]`.

LoRAs of the embedded base that were trained for different times and at different rates are evaluated on the same references, prompts and seeds
with DDIM at fewer and fewer steps, and with DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095). Printed are, beside DDIM at the most
steps: Kendall's tau between the orders of their mean weighted_total_loss, the largest difference of a mean, and the seconds for a LoRA.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from scipy.stats import kendalltau

from benchmarks.peers import at_least
from benchmarks.results import Row, report
from fashion_ml.config import Evaluation
from fashion_ml.data.images import read_references
from fashion_ml.data.pictures import fit_square, load_picture
from fashion_ml.evaluation.generate import generate, jobs_of
from fashion_ml.evaluation.instruments import read_metric_suite
from fashion_ml.evaluation.measure import MetricSuite, Picture
from fashion_ml.models.stable_diffusion import load_pipeline, quiet_libraries
from fashion_ml.runtime.console import say

TRAININGS = [(20, 2e-3), (60, 2e-3), (150, 2e-3), (400, 2e-3), (150, 3e-4), (400, 3e-4), (150, 8e-3), (400, 8e-3)]
"""Steps and learning rate of each LoRA."""
MOST = ("DDIM", 100)
SAMPLERS = [MOST, *[("DDIM", steps) for steps in (50, 25, 15, 10, 6)], *[("DPM-Solver++", steps) for steps in (25, 15, 10, 6)]]
_SIDE = 64


def train(folder: Path, steps: int, rate: float) -> Path:
    """A LoRA of the embedded experiment; its file."""
    name = f"{steps}_{rate:g}"
    command = [sys.executable, "-m", "fashion_ml", "train", "lora", "--steps", str(steps), "--lr", str(rate), "--no-evaluate"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    subprocess.run([*command, "--output-dir", name], cwd=folder, env=environment, check=True, capture_output=True)
    return folder / name / "lora.safetensors"


def total(pipeline: Any, suite: MetricSuite, jobs: list[Any], settings: Evaluation, references: list[Picture]) -> float:
    """Mean weighted_total_loss over all images."""
    sums = 0.0
    for batch, pictures in generate(pipeline, jobs, settings):
        table = suite.measure(suite.look_at(pictures), [references[jobs[index].reference] for index in batch])
        sums += float(table["weighted_total_loss"].sum())
    return sums / len(jobs)


def main() -> None:
    """Report a row for each sampler."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loras", type=at_least(2), default=len(TRAININGS))
    parser.add_argument("--references", type=at_least(1), default=16)
    arguments = parser.parse_args()
    settings = Evaluation(images_per_reference=2, guidance_scale=2.5, batch_size=16, extra_metrics=())
    suite, pipeline = read_metric_suite(settings), load_pipeline("embedded")
    ddim = pipeline.scheduler
    means: dict[tuple[str, int], list[float]] = {sampler: [] for sampler in SAMPLERS}
    seconds = dict.fromkeys(SAMPLERS, 0.0)
    with tempfile.TemporaryDirectory() as name:
        trainings = TRAININGS[: arguments.loras]
        files = [train(Path(name), *training) for training in trainings]
        (folder,) = Path(name).glob("outputs/embedded_collection_*/references")
        items = read_references(folder, ".txt", arguments.references)
        references = suite.look_at([fit_square(load_picture(item.path), _SIDE) for item in items])
        jobs = jobs_of(items, settings, [(_SIDE, _SIDE)] * len(items))
        for training, file in zip(trainings, files, strict=True):
            with quiet_libraries():
                pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
            for sampler, steps in SAMPLERS:
                maker = DDIMScheduler if sampler == "DDIM" else DPMSolverMultistepScheduler
                pipeline.scheduler = maker.from_config(ddim.config)
                some, start = settings.model_copy(update={"num_inference_steps": steps}), time.perf_counter()
                means[sampler, steps].append(total(pipeline, suite, jobs, some, references))
                seconds[sampler, steps] += time.perf_counter() - start
            pipeline.unload_lora_weights()
            say(f"{training[0]} steps at {training[1]:g}: " + ", ".join(f"{values[-1]:.4f}" for values in means.values()))
    rows = []
    for (sampler, steps), values in means.items():
        tau = kendalltau(values, means[MOST]).statistic
        apart = max(abs(value - most) for value, most in zip(values, means[MOST], strict=True))
        found = f"{seconds[sampler, steps] / len(values):.1f} s a LoRA; tau {tau:.2f}, means at most {apart:.4f} apart"
        rows.append(Row(f"{len(values)} LoRAs ranked with {sampler}, {steps} steps", found, f"{MOST[0]}, {MOST[1]} steps"))
    report(rows)


if __name__ == "__main__":
    main()
