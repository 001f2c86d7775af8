"""What a caption becomes when an image is seen: dropped, or with its parts mixed."""

from __future__ import annotations

import torch


def seen_caption(caption: str, *, shuffle: bool, keep_tokens: int, dropout_rate: float, generator: torch.Generator) -> str:
    """The caption as it is trained on this time; the generator decides.

    With probability `dropout_rate` it is empty (classifier-free guidance learns from that, Ho & Salimans 2022, arXiv:2207.12598);
    with `shuffle` its comma-separated parts after the first `keep_tokens` are in a random order.
    """
    if dropout_rate > 0 and torch.rand((), generator=generator).item() < dropout_rate:
        return ""
    if not shuffle:
        return caption
    parts = [part.strip() for part in caption.split(",")]
    kept, mixed = parts[:keep_tokens], parts[keep_tokens:]
    order = torch.randperm(len(mixed), generator=generator).tolist()
    return ", ".join([*kept, *(mixed[index] for index in order)])
