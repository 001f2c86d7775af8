"""Randomness as a function of (seed, purpose, step): nothing to save, nothing to restore, nothing that drifts."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, purpose: str, step: int = 0) -> int:
    """A 63-bit seed that depends on all three and on nothing else (SHA-256 of their text)."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """A CPU generator for one purpose at one step; draw on the CPU and move, so that every device sees the same numbers."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, purpose, step))
