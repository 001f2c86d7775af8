"""Where a command wants a file: the place, the command, and what lies beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.files import latent_files, lora_file, picture, state_file

PROJECT = Path(__file__).parents[2]


def with_images(place: Path, name: bytes = b"a.png", content: bytes | None = None) -> None:
    """`data/1_look` with one good image and one that is given."""
    home = place / "data" / "1_look"
    home.mkdir(parents=True, exist_ok=True)
    (home / "good.png").write_bytes(picture("PNG"))
    (home / "good.txt").write_text("a dress", encoding="utf-8")
    Path(os.fsdecode(os.fsencode(home) + b"/" + name)).write_bytes(picture("PNG") if content is None else content)


def _run_files() -> dict[str, bytes]:
    note = {"run_id": "0" * 32, "tracking_uri": "", "data_digest": "0", "finished": False}
    config = (PROJECT / "experiments" / "lora" / "embedded.yaml").read_bytes()
    operation = {"do": "batch", "run": "0" * 32, "metrics": [["loss", 0.5, 1, 1]]}
    return {
        "out/run.json": json.dumps(note).encode(),
        "out/config.yaml": config,
        "out/state.safetensors": state_file(),
        "out/spool/operations.jsonl": json.dumps(operation).encode() + b"\n",
        "out/spool/position.json": b'{"sent": 0, "names": {}}',
    }


def _lora_files() -> dict[str, bytes]:
    return {"a.safetensors": lora_file(), "b.safetensors": lora_file()}


def _images() -> dict[str, bytes]:
    made = {
        f"{name}/{number}.png": picture("PNG") for name in ("gen", "ref", "pictures/a", "pictures/b") for number in range(3)
    }
    made |= {f"data/1_look/{number}.png": picture("PNG") for number in range(3)}
    return made | {f"{name}/{number}.txt": b"a dress" for name in ("ref", "data/1_look") for number in range(3)}


def _latents_without(name: str) -> Callable[[], dict[str, bytes]]:
    return lambda: {key: content for key, content in latent_files().items() if key != name}


def _run_without(name: str) -> Callable[[], dict[str, bytes]]:
    return lambda: {key: content for key, content in _run_files().items() if key != name}


_TRAIN = "train lora --base embedded --no-evaluate --dry-run --offline --train-data-dir data"
SLOTS: dict[str, tuple[str, str, Callable[[], dict[str, bytes]]]] = {
    "lora config": ("x.yaml", "train lora --config x.yaml", dict),
    "stargan config": ("x.yaml", "train stargan --config x.yaml", dict),
    "reported suite": ("x.yaml", "suite-report x.yaml", dict),
    "data config": ("x.yaml", "data --config x.yaml", dict),
    "sweep": ("x.yaml", "sweep x.yaml", dict),
    "suite": ("x.yaml", "suite x.yaml", dict),
    "sweep report": ("x.yaml", "sweep-report x.yaml", dict),
    "import toml": ("x.toml", "import x.toml", dict),
    "import json": ("x.json", "import x.json", dict),
    "import script": ("x.sh", "import x.sh", dict),
    "data set file": ("x.toml", "train lora --base embedded --dataset_config x.toml", dict),
    "inspect": ("x.safetensors", "inspect x.safetensors", dict),
    "inspect pt": ("x.pt", "inspect x.pt", dict),
    "export": ("x.safetensors", "export x.safetensors out.safetensors", dict),
    "merge": ("x.safetensors", "merge a.safetensors x.safetensors --output m.safetensors", _lora_files),
    "resize": ("x.safetensors", "resize x.safetensors --rank 1 --output m.safetensors", dict),
    "extract": ("x.safetensors", "extract embedded x.safetensors --output m.safetensors", dict),
    "evaluated file": ("x.safetensors", "evaluate lora x.safetensors --base embedded", _images),
    "network weights": ("x.safetensors", f"{_TRAIN} --network_weights x.safetensors", _images),
    "base": (
        "x.safetensors",
        "train lora --base x.safetensors --no-evaluate --dry-run --offline --train-data-dir data",
        _images,
    ),
    "base ckpt": ("x.ckpt", "train lora --base x.ckpt --no-evaluate --dry-run --offline --train-data-dir data", _images),
    "base folder": (
        "base/model_index.json",
        "train lora --base base --no-evaluate --dry-run --offline --train-data-dir data",
        _images,
    ),
    "vae": ("x.safetensors", "encode pictures latents --vae x.safetensors", _images),
    "encoder": ("x.pt", "evaluate images --generated gen --reference ref --encoder local-dir:x.pt", _images),
    "pairs": ("x.csv", "evaluate images --generated gen --reference ref --without fashion_clip --pairs x.csv", _images),
    "attributes": (
        "x.yaml",
        "train lora --base embedded --dry-run --offline --train-data-dir data --attributes x.yaml",
        _images,
    ),
    "prompts": ("x.yaml", "train lora --base embedded --dry-run --offline --train-data-dir data --prompts x.yaml", _images),
    "image": ("data/1_look/x.png", "data data", _images),
    "trained image": ("data/1_look/x.png", _TRAIN, _images),
    "caption": ("data/1_look/x.txt", "data data", lambda: {**_images(), "data/1_look/x.png": picture("PNG")}),
    "trained caption": ("data/1_look/x.txt", _TRAIN, lambda: {**_images(), "data/1_look/x.png": picture("PNG")}),
    "captioned image": ("data/1_look/x.png", "caption data --encoder embedded", _images),
    "class folder": ("data/2_more", "data data", _images),
    "reference": ("ref/x.png", "data ref --references", _images),
    "mask": ("masks/1_look/0.png", f"{_TRAIN} --masks folder --masks_dir masks", _images),
    "masks": ("masks", f"{_TRAIN} --masks folder --masks_dir masks", _images),
    "encoded image": ("pictures/a/x.png", "encode pictures latents --vae embedded --size 64", _images),
    "manifest": (
        "manifest.json",
        "train stargan --vae embedded --no-evaluate --dry-run --offline --latents-dir .",
        _latents_without("manifest.json"),
    ),
    "index": (
        "packed.json",
        "train stargan --vae embedded --no-evaluate --dry-run --offline --latents-dir .",
        _latents_without("packed.json"),
    ),
    "shard": (
        "packed/coat-00000.safetensors",
        "train stargan --vae embedded --no-evaluate --dry-run --offline --latents-dir .",
        _latents_without("packed/coat-00000.safetensors"),
    ),
    "earlier manifest": ("latents/manifest.json", "encode pictures latents --vae embedded --size 64", _images),
    "resumed note": ("out/run.json", "train lora --resume out", _run_without("out/run.json")),
    "resumed config": ("out/config.yaml", "train lora --resume out", _run_without("out/config.yaml")),
    "resumed stargan": ("out/config.yaml", "train stargan --resume out", _run_without("out/config.yaml")),
    "synced note": ("out/run.json", "sync out", _run_without("out/run.json")),
    "shown": ("out/run.json", "show out", _run_without("out/run.json")),
    "served": ("served/MLmodel", "serve served", dict),
    "json": ("x.json", "data data --json x.json", _images),
    "output": ("x.safetensors", "merge a.safetensors b.safetensors --output x.safetensors", _lora_files),
    "output folder": ("out", f"{_TRAIN} --output-dir out", _images),
    "cache": ("cache", "data data --cache_dir cache", _images),
    "cached index": ("cache/images.json", "data data --cache_dir cache", _images),
}
"""Name: where the odd file lies, the command, and what lies beside it."""
OUTBOX = {name: f"out/{name}" for name in (".lock", "spool", *(f"spool/{file}" for file in (
    "lock", "operations.jsonl", "position.json", "refused.jsonl", "set_aside.jsonl")))}  # fmt: skip
"""What lies in a run's folder while its outbox is sent by `sync out`."""


def outbox_without(name: str) -> dict[str, bytes]:
    """A run's folder without what is at a path, or below it."""
    return {key: content for key, content in _run_files().items() if not f"{key}/".startswith(f"{name}/")}
