"""LoRA training beside diffusers' example, in turns: `python -m benchmarks.lora_peers EXAMPLE [--seeds N] [--photo PX]`.

EXAMPLE is the path of `examples/text_to_image/train_text_to_image_lora.py` of a diffusers checkout; it needs the packages
`datasets` and `tensorboard`. Both commands run as users run them, on the embedded base, with the same images, captions, batch,
steps, resolution, rank and learning rate, and both log every step (ours to MLflow in batches of ten, the example to TensorBoard).
`--photo` is the side of the JPEG files; both train at 64 pixels, and only the example opens the files again at every step.
Speed is steps per second between the first and the last logged step; loss is the mean over all steps and seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.lora_step import write_photos
from fashion_ml.embedded import EMBEDDED_DIR
from fashion_ml.progress import say

IMAGES, RANK, RATE, RESOLUTION, LOG_EVERY = 48, 16, 1e-4, 64, 10


def ours(folder: Path, images: Path, seed: int, steps: int, batch: int) -> tuple[float, list[float]]:
    """Steps per second and the loss of every step of `fashion-ml train lora`."""
    (folder / "experiment.yaml").write_text(json.dumps({"data": {"train_data_dir": str(images)}}), encoding="utf-8")
    command = [sys.executable, "-m", "fashion_ml", "train", "lora", "--config", "experiment.yaml", "--no-evaluate"]
    command += ["--seed", str(seed), "--steps", str(steps), "--train_batch_size", str(batch), "--rank", str(RANK)]
    command += ["--lr", str(RATE), "--resolution", str(RESOLUTION), "--output-dir", "out", "--json", "facts.json"]
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    _run([*command, "--log_every", str(LOG_EVERY)], folder, {"MLFLOW_TRACKING_URI": uri})
    import mlflow

    run_id = json.loads((folder / "facts.json").read_text(encoding="utf-8"))["run_id"]
    points = sorted(mlflow.MlflowClient(uri).get_metric_history(run_id, "total_loss"), key=lambda point: point.step)
    assert len(points) == steps
    seconds = (points[-1].timestamp - points[0].timestamp) / 1000
    return (steps - 1) / seconds, [point.value for point in points]


def example(script: Path, folder: Path, images: Path, seed: int, steps: int, batch: int) -> tuple[float, list[float]]:
    """Steps per second and the loss of every step of diffusers' example."""
    command = [sys.executable, str(script), "--pretrained_model_name_or_path", str(EMBEDDED_DIR / "stable_diffusion")]
    command += ["--train_data_dir", str(images), "--resolution", str(RESOLUTION), "--center_crop", "--rank", str(RANK)]
    command += ["--train_batch_size", str(batch), "--max_train_steps", str(steps), "--learning_rate", str(RATE)]
    command += ["--lr_scheduler", "constant", "--lr_warmup_steps", "0", "--seed", str(seed), "--output_dir", "out"]
    _run(command, folder, {"HF_HOME": str(folder / "home")})
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(next((folder / "out").rglob("events.out.*")).parent))
    events.Reload()
    points = events.Scalars("train_loss")
    assert len(points) == steps
    return (steps - 1) / (points[-1].wall_time - points[0].wall_time), [point.value for point in points]


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    result = subprocess.run(
        command, cwd=folder, env={**os.environ, **offline, **environment, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{result.stderr[-3000:]}")


def as_imagefolder(images: Path, target: Path) -> Path:
    """The same images with the `metadata.jsonl` that the example reads."""
    target.mkdir()
    lines = []
    for path in sorted(images.rglob("*.jpg")):
        (target / path.name).write_bytes(path.read_bytes())
        caption = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
        lines.append(json.dumps({"file_name": path.name, "text": caption}))
    (target / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def main() -> None:
    """Print a line for each pair of runs, then the medians and the mean losses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("example", type=Path)
    for name, default in (("seeds", 3), ("steps", 300), ("batch", 4), ("photo", 512)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    sizes = (arguments.steps, arguments.batch)
    ratios, losses = [], {"ours": list[float](), "example": list[float]()}
    with tempfile.TemporaryDirectory() as name:
        images = write_photos(Path(name) / "images", IMAGES, arguments.photo)
        folder_of_images = as_imagefolder(images, Path(name) / "imagefolder")
        for seed in range(arguments.seeds):
            places = [Path(name) / f"{who}{seed}" for who in losses]
            for place in places:
                place.mkdir()
            our_speed, our_losses = ours(places[0], images, seed, *sizes)
            speed, example_losses = example(arguments.example.absolute(), places[1], folder_of_images, seed, *sizes)
            ratios.append(our_speed / speed)
            losses["ours"] += our_losses
            losses["example"] += example_losses
            say(
                f"seed {seed}: ours {our_speed:.2f} steps/s, mean loss {statistics.fmean(our_losses):.4f}; example {speed:.2f} steps/s, mean "
                f"loss {statistics.fmean(example_losses):.4f}; ratio of the speeds {ratios[-1]:.2f}"
            )
    means = {who: statistics.fmean(values) for who, values in losses.items()}
    error = {who: statistics.stdev(values) / len(values) ** 0.5 for who, values in losses.items()}
    say(
        f"median ratio {statistics.median(ratios):.2f} (embedded base, "
        f"photos of {arguments.photo} px, batch {sizes[1]}, rank {RANK}, {sizes[0]} steps); mean loss "
        f"ours {means['ours']:.4f} ± {error['ours']:.4f}, example {means['example']:.4f} ± {error['example']:.4f}, "
        f"ratio {means['ours'] / means['example']:.4f}"
    )


if __name__ == "__main__":
    main()
