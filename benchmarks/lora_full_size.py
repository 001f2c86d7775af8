"""LoRA training at Stable Diffusion 1.5's size, ours beside the peers: `python -m benchmarks.lora_full_size [--example PATH] [--kohya PATH]`.

Random weights of SD 1.5's architecture, 256 px, batch 1, rank 32, float32, the same images; every command runs as users run it, in turns, and
logs every step. The figure is the median of seconds between two steps, after the first few. `--example` is diffusers'
`train_text_to_image_lora.py` (attention targets), `--kohya` a checkout of sd-scripts (its 192 modules, latents cached, text encoder
off); `--example-python` and `--kohya-python` name interpreters that have what these need. 12 GiB of memory and 5 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.lora_peers import as_imagefolder
from benchmarks.lora_step import random_sd15, write_photos
from benchmarks.results import Row, report

RESOLUTION, RANK, RATE, FIRST = 256, 32, 1e-4, 2


def ours(folder: Path, base: Path, images: Path, steps: int, targets: str) -> list[float]:
    """Wall times of the steps of `fashion-ml train lora`; targets `attention` or `kohya`."""
    (folder / "experiment.yaml").write_text(json.dumps({"data": {"train_data_dir": str(images)}}), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "fashion_ml",
        "train",
        "lora",
        "--config",
        "experiment.yaml",
        "--no-evaluate",
        "--base",
        str(base),
    ]
    command += ["--rank", str(RANK), "--lr", str(RATE), "--steps", str(steps), "--train_batch_size", "1", "--log_every", "1"]
    command += ["--resolution", str(RESOLUTION), "--output-dir", "out", "--json", "facts.json"]
    for name in ("feed_forward", "projections") if targets == "kohya" else ():
        command += ["--set", f"network.{name}=true"]
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    _run(command, folder, {"MLFLOW_TRACKING_URI": uri})
    import mlflow

    run_id = json.loads((folder / "facts.json").read_text(encoding="utf-8"))["run_id"]
    points = mlflow.MlflowClient(uri).get_metric_history(run_id, "total_loss")
    return [point.timestamp / 1000 for point in sorted(points, key=lambda point: point.step)]


def example(python: str, script: Path, folder: Path, base: Path, images: Path, steps: int) -> list[float]:
    """Wall times of the steps of diffusers' example."""
    command = [
        python,
        str(script),
        "--pretrained_model_name_or_path",
        str(base),
        "--train_data_dir",
        str(images),
        "--center_crop",
    ]
    command += [
        "--resolution",
        str(RESOLUTION),
        "--rank",
        str(RANK),
        "--train_batch_size",
        "1",
        "--max_train_steps",
        str(steps),
    ]
    command += ["--learning_rate", str(RATE), "--lr_scheduler", "constant", "--lr_warmup_steps", "0", "--seed", "0"]
    _run([*command, "--output_dir", "out"], folder, {"HF_HOME": str(folder / "home")})
    return _wall_times(folder / "out", "train_loss")


def kohya(python: str, checkout: Path, folder: Path, base: Path, images: Path, steps: int) -> list[float]:
    """Wall times of the steps of sd-scripts' train_network.py."""
    _slow_tokenizer(folder / "tokenizers" / "openai_clip-vit-large-patch14")
    command = [
        python,
        str(checkout / "train_network.py"),
        "--pretrained_model_name_or_path",
        str(base),
        "--train_data_dir",
        str(images),
    ]
    command += [
        "--resolution",
        str(RESOLUTION),
        "--network_module",
        "networks.lora",
        "--network_dim",
        str(RANK),
        "--network_alpha",
        "32",
    ]
    command += [
        "--network_train_unet_only",
        "--cache_latents",
        "--sdpa",
        "--train_batch_size",
        "1",
        "--max_train_steps",
        str(steps),
    ]
    command += [
        "--learning_rate",
        str(RATE),
        "--lr_scheduler",
        "constant",
        "--optimizer_type",
        "AdamW",
        "--mixed_precision",
        "no",
    ]
    command += [
        "--tokenizer_cache_dir",
        str(folder / "tokenizers"),
        "--caption_extension",
        ".txt",
        "--max_data_loader_n_workers",
        "0",
    ]
    command += [
        "--logging_dir",
        str(folder / "log"),
        "--log_with",
        "tensorboard",
        "--output_dir",
        str(folder),
        "--output_name",
        "k",
    ]
    _run([*command, "--seed", "0"], checkout, {})
    return _wall_times(folder / "log", "loss/current")


def _slow_tokenizer(place: Path) -> None:
    """CLIP's vocabulary in the two files that older transformers read."""
    from fashion_ml.models.single_file import clip_tokenizer

    place.mkdir(parents=True)
    tokenizer = clip_tokenizer("sd1")
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    (place / "vocab.json").write_text(json.dumps(tokenizer.get_vocab()), encoding="utf-8")
    lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    (place / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]) + "\n", encoding="utf-8")
    facts = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": "<|startoftext|>"}
    facts |= dict.fromkeys(("eos_token", "pad_token", "unk_token"), "<|endoftext|>")
    (place / "tokenizer_config.json").write_text(json.dumps(facts), encoding="utf-8")


def _wall_times(folder: Path, tag: str) -> list[float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for path in folder.rglob("events.out.*"):
        events = EventAccumulator(str(path.parent))
        events.Reload()
        if tag in events.Tags()["scalars"]:
            return [point.wall_time for point in events.Scalars(tag)]
    raise SystemExit(f"no {tag} below {folder}")


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    result = subprocess.run(command, cwd=folder, env={**os.environ, **offline, **environment}, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{result.stderr[-3000:]}")


def main() -> None:
    """Measure in turns, report medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("example", "kohya", "base"):
        parser.add_argument(f"--{name}", type=Path)
    for name in ("example-python", "kohya-python"):
        parser.add_argument(f"--{name}", default=sys.executable)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        base = arguments.base
        if base is None:
            base = place / "base"
            random_sd15().save_pretrained(base)
        images = write_photos(place / "images", 8, 512)
        for_example = as_imagefolder(images, place / "imagefolder")
        steps = FIRST + arguments.steps
        sides: dict[str, Callable[[Path], list[float]]] = {
            "ours, attention": lambda at: ours(at, base, images, steps, "attention")
        }
        if arguments.example:
            script = arguments.example.absolute()
            sides["diffusers' example"] = lambda at: example(arguments.example_python, script, at, base, for_example, steps)
        sides["ours, 192 modules"] = lambda at: ours(at, base, images, steps, "kohya")
        if arguments.kohya:
            checkout = arguments.kohya.absolute()
            sides["kohya"] = lambda at: kohya(arguments.kohya_python, checkout, at, base, images, steps)
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for turn in range(arguments.rounds):
            for number, (side, run) in enumerate(sides.items()):
                at = place / f"{turn}-{number}"
                at.mkdir()
                times = run(at)
                seconds[side] += [after - before for before, after in zip(times[FIRST - 1 :], times[FIRST:], strict=False)]
    median = {side: statistics.median(values) for side, values in seconds.items()}
    what = f"SD 1.5's size, {RESOLUTION} px, batch 1, rank {RANK}, float32"
    rows = []
    for mine, peer in (("ours, attention", "diffusers' example"), ("ours, 192 modules", "kohya")):
        beside = f"{peer} {median[peer]:.2f} s a step" if peer in median else ""
        ratio = median[peer] / median[mine] if peer in median else None
        rows.append(Row(f"{what}, {mine.removeprefix('ours, ')}", f"{median[mine]:.2f} s a step", beside, ratio))
    report(rows)


if __name__ == "__main__":
    main()
