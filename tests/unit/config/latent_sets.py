"""Small latents, and what tells files of networks apart."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

APART = (
    "data.",
    "training.",
    "tracking.offline",
    *(f"evaluation.{one}" for one in ("without", "vae", "enabled", "contents_part")),
)
"""Settings that are looked at in runs of their own."""


def digest(path: Path) -> str:
    """Of every number in a file of networks."""
    found = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        found.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.float().numpy().tobytes())
    return found.hexdigest()


def latents(folder: Path, seed: int, channels: int = 4) -> None:
    """Two domains of five latents that differ in their mean."""
    draw = torch.Generator().manual_seed(seed)
    for number, domain in enumerate(("red", "blue")):
        (folder / domain).mkdir(parents=True)
        for index in range(5):
            torch.save(torch.randn(channels, 8, 8, generator=draw) + number, folder / domain / f"{index}.pt")


def tables_by_pair(*runs: Any) -> list[bool]:
    """Whether the evaluation of each has a table by pair of domains."""
    return [(one.folder / "evaluation" / "by_pair.csv").is_file() for one in runs]


def in_halves(runs: Any) -> bool:
    """Of four latents of each domain that are held out two are searched by and the other two held, as contents and as references."""
    given = {"evaluation__enabled": True, "evaluation__without": "fashion_clip"}
    search, held = (runs(**given, evaluation__contents_part=part) for part in ("search", "held"))
    used = [set(one.table["reference"]) for one in (search, held)]
    noted = [sorted(one.facts["held_out"]) for one in (search, held)]
    return (
        [len(one) for one in (*used, used[0] | used[1])] == [4, 4, 8]
        and [len(one) for one in noted] == [4, 4]
        and used[0] | used[1] == set(runs.without.table["reference"])
        and search.facts["fingerprint"] != held.facts["fingerprint"]
    )


def other_diversity(runs: Any, **changes: Any) -> bool:
    """Whether the same networks' latent styles spread otherwise."""
    again = runs(evaluation__enabled=True, evaluation__without="fashion_clip", **changes)
    return again.networks == runs.without.networks and again.scores["diversity"] != runs.without.scores["diversity"]


def other_pictures(runs: Any, fact: str, **given: str) -> bool:
    """The same networks, decoded by other means: other numbers, and what they depend on is noted."""
    again = runs(evaluation__enabled=True, evaluation__without="fashion_clip", **given)
    same = again.networks == runs.without.networks and again.facts[fact] != runs.without.facts[fact]
    return same and again.scores["ssim"] != runs.without.scores["ssim"]
