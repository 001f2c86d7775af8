"""The commands that are killed: what is there before each, how it is begun again, and what of it is compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.runs.forked import forked, quick_studies
from tests.runs.small_studies import EMBEDDED, SMALL

OWN = ("--base", "embedded", "--encoder", "embedded", "--train_data_dir", "train", "--references", "held")
"""Pictures of one's own on the embedded base."""
LORA = (
    *("train", "lora", *OWN, "--steps", "3", "--rank", "2", "--seed", "3"),
    *("--resolution", "32", "--output-dir", "out", "--set", "training.log_every=1", "--set", "training.save_every_n_steps=2"),
    *("--set", "evaluation.num_inference_steps=1", "--set", "evaluation.images_per_reference=1"),
    *("--set", "evaluation.resamples=10", "--set", "evaluation.prompts=none", "--set", "evaluation.extra_metrics=[]"),
)
STARGAN = (
    *("train", "stargan", "--latents_dir", "latents", "--base_dim", "8", "--n_res_blocks", "2", "--d_layers", "1"),
    *("--mapping_hidden_dim", "16", "--batch_size", "4", "--epochs", "2", "--grid_every_n_epochs", "1", "--seed", "5"),
    *("--output-dir", "out", "--set", "evaluation.contents_per_domain=2", "--set", "evaluation.resamples=10"),
    *("--set", "evaluation.styles=2", "--set", "data.validation_split=0.3"),
)


@dataclass(frozen=True)
class Scenario:
    """A command, what is there before it, and how it is begun again."""

    command: tuple[str, ...]
    prepare: Callable[[Path], None]
    resumes: bool = False
    """Whether it is begun again with --resume; else as it is."""
    outputs: tuple[str, ...] = ("out",)
    """Folders whose files are compared."""
    repeats: bool = False
    """Whether it does all of its work again where it had come to its end: to measure again is to measure twice."""
    closes: bool = False
    """Whether its user has to end a killed run by `doctor --close-runs`: nothing else does."""


def pictures(folder: Path) -> None:
    """Four garments to train on, two others as references, and two domains of them."""
    from fashion_ml.embedded.garments import Garment, render

    for place, first, count in (
        ("train/1_dress", 0, 4),
        ("held", 9, 2),
        ("images/plain", 0, 4),
        ("images/striped", 0, 4),
    ):
        (folder / place).mkdir(parents=True)
        pattern = "striped" if place.endswith("striped") else "plain"
        for number in range(first, first + count):
            colour = ("red", "blue")[number % 2]
            render(Garment("dress", colour, pattern, seed=number)).save(folder / place / f"{number}.png")
            (folder / place / f"{number}.txt").write_text(f"a {colour} dress")


def encoded(folder: Path) -> None:
    """Pictures, and their latents."""
    pictures(folder)
    _must("encode", "images", "latents", "--size", "32", folder=folder)


def trained(folder: Path) -> None:
    """A LoRA that was trained and not evaluated."""
    pictures(folder)
    _must(*LORA, "--no-evaluate", folder=folder)


def trained_stargan(folder: Path) -> None:
    """A StarGAN that was trained and not evaluated."""
    encoded(folder)
    _must(*STARGAN, "--no-evaluate", folder=folder)


def trained_offline(folder: Path) -> None:
    """A LoRA that was trained and evaluated, and not sent."""
    pictures(folder)
    _must(*LORA, "--offline", folder=folder)


_STUDY: dict[str, Any] = {
    "name": "small",
    "trainer": "lora",
    "experiment": EMBEDDED,
    "settings": {
        **SMALL,
        "training.max_train_steps": 1,
        "data.train_data_dir": "train",
        "evaluation.references": "held",
        "evaluation.resamples": 10,
        "evaluation.max_references": 6,
        "evaluation.rotations": 0,
        "evaluation.without": ["fashion_clip"],
    },
    "heartbeat_seconds": 1,
}


def sweep_file(folder: Path) -> None:
    """Pictures, and a sweep of two trials."""
    pictures(folder)
    search = {"optimizer.learning_rate": {"type": "categorical", "choices": [1e-4, 1e-2]}}
    more = {"search_space": search, "sampler": {"name": "grid"}, "trials": 2, "confirm": {"best": 0}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump({**_STUDY, **more, "objectives": [{"metric": "visual_loss"}]}))


def suite_file(folder: Path) -> None:
    """Pictures, and a suite of two recipes with three seeds."""
    pictures(folder)
    recipes = {"rank 2": {"settings": {"rank": 2}}, "fast": {"settings": {"lr": 1e-2}}}
    more = {"recipes": recipes, "metric": "visual_loss", "seeds": [0, 1, 2]}
    (folder / "suite.yaml").write_text(yaml.safe_dump({**_STUDY, **more}, sort_keys=False))


SCENARIOS = {
    "lora": Scenario(LORA, pictures, resumes=True),
    "lora-offline": Scenario((*LORA, "--offline"), pictures, resumes=True),
    "stargan": Scenario(STARGAN, encoded, resumes=True),
    "encode": Scenario(("encode", "images", "latents", "--size", "32"), pictures, outputs=("latents",)),
    "evaluate-stargan": Scenario(
        ("evaluate", "run", "latest", "--output-dir", "evaluated"), trained_stargan, outputs=("evaluated",), repeats=True
    ),
    "evaluate": Scenario(
        ("evaluate", "run", "latest", "--output-dir", "evaluated"), trained, outputs=("evaluated",), repeats=True
    ),
    "sync": Scenario(("sync", "out"), trained_offline),
    "sweep": Scenario(("sweep", "sweep.yaml", "--workers", "1"), sweep_file, outputs=("outputs/sweeps/small",)),
    "suite": Scenario(("suite", "suite.yaml", "--workers", "1"), suite_file, outputs=("outputs/suites/small",)),
}


def _must(*command: str, folder: Path) -> None:
    code, said = forked(*command, cwd=folder, uri=f"sqlite:///{folder / 'mlflow.db'}", seconds=1800, before=quick_studies)
    assert code == 0, said
