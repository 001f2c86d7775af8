"""Small latents, and what tells files of networks apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file


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
