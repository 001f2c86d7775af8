"""LoRA trainings as users start them: ours, diffusers' example and kohya's train_network.py, each in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@dataclass(frozen=True)
class Task:
    """One training."""

    base: Path
    """Folder of a diffusers pipeline."""
    images: Path
    """Folder in kohya's layout."""
    resolution: int
    batch: int
    steps: int
    rank: int
    rate: float = 1e-4
    seed: int = 0
    precision: str = "no"


@dataclass(frozen=True)
class Trained:
    """What a training logged."""

    times: list[float]
    """Wall time of each step, seconds."""
    losses: list[float]
    peak: float
    """Resident memory of the process at its most, MiB."""


@dataclass(frozen=True)
class Peer:
    """An interpreter and what it runs: the example's script, or a checkout of sd-scripts."""

    python: str
    path: Path


def at_least(least: int) -> Callable[[str], int]:
    """An option's whole number, which must not be below `least`."""

    def read(given: str) -> int:
        if not given.isdecimal() or int(given) < least:
            raise argparse.ArgumentTypeError(f"{given!r} is no whole number of at least {least}")
        return int(given)

    return read


def existing(given: str) -> Path:
    """An option's path, which must be there: a peer's run comes minutes after the command."""
    path = Path(given)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"{given!r} does not exist")
    return path


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--example`, `--example-python`, `--kohya`, `--kohya-python`."""
    parser.add_argument("--example", type=existing, help="diffusers' examples/text_to_image/train_text_to_image_lora.py")
    parser.add_argument("--kohya", type=existing, help="a checkout of sd-scripts")
    for name in ("example", "kohya"):
        parser.add_argument(f"--{name}-python", default=sys.executable, help="the interpreter that has what it needs")


def given(arguments: argparse.Namespace, name: str) -> Peer | None:
    """The peer that the options name."""
    path = getattr(arguments, name)
    return Peer(getattr(arguments, f"{name}_python"), path.absolute()) if path else None


def our_command(task: Task, folder: Path, *, targets: str = "attention", log_every: int = 1) -> list[str]:
    """The command of `fashion-ml train lora`, to be run in `folder`; targets `attention`, or `kohya` for its 192 modules."""
    (folder / "experiment.yaml").write_text(json.dumps({"data": {"train_data_dir": str(task.images)}}), encoding="utf-8")
    command = [sys.executable, "-m", "fashion_ml", "train", "lora", "--config", "experiment.yaml", "--no-evaluate"]
    command += [
        "--base",
        str(task.base),
        "--resolution",
        str(task.resolution),
        "--rank",
        str(task.rank),
        "--lr",
        str(task.rate),
    ]
    command += ["--steps", str(task.steps), "--train_batch_size", str(task.batch), "--seed", str(task.seed)]
    command += ["--mixed_precision", task.precision]
    command += ["--log_every", str(log_every), "--output-dir", "out", "--json", "facts.json"]
    for name in ("feed_forward", "projections") if targets == "kohya" else ():
        command += ["--set", f"network.{name}=true"]
    return command


def ours(task: Task, folder: Path, *, targets: str = "attention", log_every: int = 1) -> Trained:
    """`fashion-ml train lora` to its end."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    peak = _run(our_command(task, folder, targets=targets, log_every=log_every), folder, {"MLFLOW_TRACKING_URI": uri})
    return Trained(*logged(folder, uri, task.steps), peak)


def logged(folder: Path, uri: str, steps: int) -> tuple[list[float], list[float]]:
    """Wall time, seconds since 1970, and total_loss of each step of our training in that folder and store."""
    import mlflow

    run_id = json.loads((folder / "facts.json").read_text(encoding="utf-8"))["run_id"]
    points = sorted(mlflow.MlflowClient(uri).get_metric_history(run_id, "total_loss"), key=lambda point: point.step)
    assert len(points) == steps
    return [point.timestamp / 1000 for point in points], [point.value for point in points]


def example(peer: Peer, task: Task, folder: Path) -> Trained:
    """Diffusers' example, with the same images as an imagefolder; attention targets."""
    command = [peer.python, str(peer.path), "--pretrained_model_name_or_path", str(task.base), "--center_crop"]
    command += ["--train_data_dir", str(_as_imagefolder(task.images, folder / "imagefolder"))]
    command += ["--resolution", str(task.resolution), "--rank", str(task.rank), "--learning_rate", str(task.rate)]
    command += ["--train_batch_size", str(task.batch), "--max_train_steps", str(task.steps), "--seed", str(task.seed)]
    command += ["--lr_scheduler", "constant", "--lr_warmup_steps", "0", "--output_dir", "out"]
    command += ["--mixed_precision", task.precision]
    peak = _run(command, folder, {"HF_HOME": str(folder / "home")})
    return _from_tensorboard(folder / "out", "train_loss", task, peak)


def kohya(peer: Peer, task: Task, folder: Path) -> Trained:
    """sd-scripts' train_network.py: 192 modules, latents cached, text encoder off. Its own SD 1.5 alone."""
    _slow_tokenizer(folder / "tokenizers" / "openai_clip-vit-large-patch14")
    command = [peer.python, str(peer.path / "train_network.py"), "--pretrained_model_name_or_path", str(task.base)]
    command += ["--train_data_dir", str(task.images), "--caption_extension", ".txt", "--resolution", str(task.resolution)]
    command += ["--network_module", "networks.lora", "--network_train_unet_only", "--cache_latents", "--sdpa"]
    command += ["--network_dim", str(task.rank), "--network_alpha", str(task.rank), "--learning_rate", str(task.rate)]
    command += ["--train_batch_size", str(task.batch), "--max_train_steps", str(task.steps), "--seed", str(task.seed)]
    command += ["--lr_scheduler", "constant", "--optimizer_type", "AdamW", "--mixed_precision", task.precision]
    command += ["--max_data_loader_n_workers", "0", "--tokenizer_cache_dir", str(folder / "tokenizers")]
    command += ["--logging_dir", str(folder / "log"), "--log_with", "tensorboard"]
    command += ["--output_dir", str(folder), "--output_name", "k"]
    peak = _run(command, peer.path, {})
    return _from_tensorboard(folder / "log", "loss/current", task, peak)


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Run to the end; the most memory that a process of it took, MiB."""
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    # a process between this one and the command: its children's peak is the command's alone
    code = "import resource, subprocess, sys; rc = subprocess.run(sys.argv[1:]).returncode; "
    code += "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(rc)"
    result = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=folder,
        env={**os.environ, **_OFFLINE, **environment, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{result.stderr[-3000:]}")
    return int(result.stderr.rsplit("peak ", 1)[1]) / 1024


def _as_imagefolder(images: Path, target: Path) -> Path:
    """The same images with the `metadata.jsonl` that the example reads."""
    target.mkdir()
    lines = []
    for path in sorted(images.rglob("*.jpg")):
        (target / path.name).write_bytes(path.read_bytes())
        caption = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
        lines.append(json.dumps({"file_name": path.name, "text": caption}))
    (target / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


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


def _from_tensorboard(folder: Path, tag: str, task: Task, peak: float) -> Trained:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for path in folder.rglob("events.out.*"):
        events = EventAccumulator(str(path.parent), size_guidance={"scalars": 0})
        events.Reload()
        if tag in events.Tags()["scalars"]:
            points = events.Scalars(tag)
            assert len(points) == task.steps
            return Trained([point.wall_time for point in points], [point.value for point in points], peak)
    raise SystemExit(f"no {tag} below {folder}")
