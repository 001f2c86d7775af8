"""A small real training set, and one call that trains on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from fashion_ml.config import LoraExperiment, validate
from fashion_ml.data.images import CaptionedImage, read_training_folder
from fashion_ml.data.lora_batches import StepInputs
from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.runs.inputs import read_sources
from fashion_ml.training.lora_inputs import prepare_inputs, with_steps
from fashion_ml.training.lora_loop import Hooks, TrainedLora, train_lora
from fashion_ml.training.new_word import put_word


def write_images(folder: Path, count: int = 3, repeats: int = 2, seed: int = 5) -> list[CaptionedImage]:
    """`count` garments with captions in `folder/<repeats>_x`."""
    place = folder / f"{repeats}_x"
    place.mkdir(parents=True, exist_ok=True)
    for name, garment in zip("abcdefghijkl"[:count], sample_garments(count, seed=seed), strict=True):
        render(garment).save(place / f"{name}.png")
        (place / f"{name}.txt").write_text(garment.caption(), encoding="utf-8")
    return read_training_folder(folder)


def experiment(images: Path, **sections: Any) -> LoraExperiment:
    """Four steps at rank 2 on `images`; sections such as `training={"seed": 1}` are laid over that."""
    tree: dict[str, dict[str, Any]] = {
        "data": {"train_data_dir": str(images), "resolution": 64},
        "network": {"rank": 2},
        "optimizer": {"learning_rate": 1e-3},
        "training": {"max_train_steps": 4, "log_every": 2},
    }
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    return validate(tree)


def small(images: Path, **sections: Any) -> LoraExperiment:
    """As `experiment`, at 32 px: where pictures are not the point."""
    return experiment(images, **{**sections, "data": {"resolution": 32, **sections.get("data", {})}})


@dataclass
class Trained:
    """A finished training in this process."""

    result: TrainedLora
    rows: list[dict[str, float]]
    inputs: StepInputs
    pipeline: Any = field(repr=False)


def train(
    config: LoraExperiment, folder: Path, *, resume: bool = False, rows: list[dict[str, float]] | None = None, **others: Any
) -> Trained:
    """Train as a run does, without MLflow; `others` are hooks beside that of the rows."""
    accelerator = Accelerator(mixed_precision=config.training.mixed_precision, cpu=True)
    pipeline = load_pipeline(config.model.base, **config.model.schedule())
    put_word(config, pipeline)
    sources = read_sources(config)
    config = with_steps(config, pipeline, sources.items, accelerator.num_processes)
    inputs, validation = prepare_inputs(config, pipeline, sources.items, sources.prior, accelerator)
    rows = [] if rows is None else rows
    hooks = Hooks(
        rows=lambda new: rows.extend({key: value for key, value in row.items() if key != "time"} for row in new), **others
    )
    result = train_lora(config, pipeline, inputs, validation, folder, hooks, accelerator, resume=resume)
    return Trained(result, rows, inputs, pipeline)
