"""What a set of latents is once it is read: domains by their names, each with its latents, in memory or in files of the packed form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr

MIRRORED = ".mirrored"
"""Ends the names of latents of mirrored images."""
MOST_DOMAINS = 1000
"""Of a set: networks have an output for each, and 20,000 of them take gigabytes before the first step."""
FIELD = "data.latents_dir"
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Domain:
    """The latents of one domain, in the order of their names."""

    name: str
    files: tuple[str, ...]
    """Names without endings."""
    _whole: torch.Tensor | None
    shards: tuple[tuple[Path, int], ...] = ()
    """Files of the packed form and how many latents each holds."""
    _sha256: str = ""
    """Of the packed latents, when they were packed."""

    def __len__(self) -> int:
        return len(self.files)

    def take(self, indices: Sequence[int]) -> torch.Tensor:
        """Unscaled latents (N, C, h, w), float32. InputError where one of a packed file is not finite."""
        if self._whole is not None:
            return self._whole[list(indices)].float()
        found = torch.stack([self._read(index) for index in indices]).float()
        if not all_finite(found):
            name = next(self.files[index] for index, one in zip(indices, found, strict=True) if not all_finite(one))
            raise InputError(
                tr(
                    "{field}: the packed latent {name!r} of {domain!r} holds NaN or infinite numbers; encode it again",
                    field=FIELD,
                    name=name,
                    domain=self.name,
                )
            )
        return found

    def sha256(self) -> str:
        """Of all latents as float32, in their order."""
        return self._sha256 or hashlib.sha256(self.take(range(len(self))).numpy().tobytes()).hexdigest()

    def _read(self, index: int) -> torch.Tensor:
        from safetensors import safe_open

        for path, count in self.shards:
            if index < count:
                with safe_open(path, framework="pt") as file:
                    return file.get_slice("latents")[index : index + 1][0]
            index -= count
        raise IndexError(index)


@dataclass(frozen=True)
class LatentSet:
    """All domains, and what the manifest says; `manifest` is empty for folders that others made."""

    folder: Path
    domains: tuple[Domain, ...]
    shape: Shape
    manifest: Mapping[str, Any]

    def digest(self) -> str:
        """SHA-256 over domains, names and latents; the packed form and the single files have the same."""
        digest = hashlib.sha256()
        for domain in self.domains:
            digest.update(f"{domain.name}\0{chr(0).join(domain.files)}\0{domain.sha256()}\n".encode())
        return digest.hexdigest()


def held_out(domain: Domain, share: float) -> tuple[list[int], list[int]]:
    """Indices for training and held out, at least one picture on each side when share > 0; an order by the hash of the names.

    A mirrored picture is on the side of its original.
    """
    originals = [name.removesuffix(MIRRORED) for name in domain.files]
    order = sorted(set(originals), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    count = min(max(round(share * len(order)), 1), len(order) - 1) if share > 0 else 0
    held = set(order[:count])
    sides: tuple[list[int], list[int]] = [], []
    for index, name in enumerate(originals):
        sides[name in held].append(index)
    return sides


def all_finite(latents: torch.Tensor) -> bool:
    """Whether latents are finite as float32. Their sum says so in a tenth of the time of looking at each; if it overflows, each is."""
    found = latents.float()
    return bool(found.sum().isfinite()) or bool(found.isfinite().all())


def check_count(domains: int, field: str, folder: Path) -> None:
    """InputError for more domains than a set may have."""
    if domains > MOST_DOMAINS:
        raise InputError(
            tr(
                "{field}: {folder!r} holds {domains:,} domains, and {most:,} are the most; join them into fewer folders",
                field=field,
                folder=str(folder),
                domains=domains,
                most=MOST_DOMAINS,
            )
        )
