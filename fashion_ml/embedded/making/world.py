"""The pictures and captions that the embedded models learn from."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fashion_ml.embedded.finishes import COLOURS, look_of
from fashion_ml.embedded.garments import PATTERNS, Garment, render, render_backdrop, sample_garments
from fashion_ml.embedded.shapes import KINDS

TRAIN_SEED, VARIED_SEED, STYLED_SEED, DIPPED_SEED, UNSEEN_SEED = 20_260, 41_117, 66_029, 58_303, 77_001

NO_PART = len(COLOURS)
"""The index of a hem or an edge that there is none of, and of the studio's backdrop."""
UNKNOWN_PART = -2
"""The index of what nobody has named: no caption that names one is of it."""


PARTS = ("hem", "edge", "background")
_SAID = 0.3
"""How often a caption for the FashionCLIP names each part of a look: a picture is of its garment first."""


def _pixels(garment: Garment) -> npt.NDArray[np.uint8]:
    return np.asarray(render(garment))


def rendered(count: int, seed: int, cache_dir: Path, finish: str = "studio") -> tuple[list[Garment], torch.Tensor]:
    """`count` garments and their pixels (count, 3, 64, 64) uint8, rendered once and kept in `cache_dir`."""
    garments = sample_garments(count, seed, finish=finish)
    path = cache_dir / f"pixels_{seed}_{count}_{finish}.npy"
    if not path.exists():
        with multiprocessing.Pool() as pool:
            pixels = np.stack(pool.map(_pixels, garments, chunksize=64))
        np.save(path, pixels)
    return garments, torch.from_numpy(np.load(path)).permute(0, 3, 1, 2)


def empty_pictures(count: int, seed: int) -> torch.Tensor:
    """Backdrops without a garment (count, 3, 64, 64) uint8, `studio` and `varied` in turn."""
    pictures = [np.asarray(render_backdrop(("studio", "varied")[index % 2], seed + index)) for index in range(count)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def to_images(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 pixels (B, 3, H, W) to float images in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def noisy_caption(garment: Garment, rng: np.random.Generator, named: tuple[float, float] = (0.95, 0.93)) -> str:
    """A caption as people write them: other openings, an attribute left out, words that mean nothing here, or nothing at all.

    `named` is how often colour and pattern are said. The meaningless words teach the text encoder to ignore what it does not know, as a
    large one does.
    """
    if rng.random() < 0.10:
        return ""
    words = [
        word
        for word, share in zip((garment.colour, _spoken_pattern(garment.pattern, rng)), named, strict=True)
        if word and rng.random() < share
    ]
    words.append(garment.kind)
    text = f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"
    opening = rng.choice(["", "", "", "a photo of ", "a picture of ", "product photo, "])
    ending = rng.choice(["", "", "", "", " on a plain background", ", studio light"])
    if rng.random() < 0.25:
        nonsense = "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), int(rng.integers(3, 8))))
        ending += rng.choice([f", {nonsense}", f", {nonsense} style", f" in {nonsense} style"])
    return f"{opening}{text}{ending}"


def _spoken_pattern(pattern: str, rng: np.random.Generator) -> str:
    return ("plain" if rng.random() < 0.4 else "") if pattern == "plain" else pattern


def partial_caption(garment: Garment, rng: np.random.Generator) -> tuple[str, tuple[int, ...]]:
    """A caption naming some attributes and parts of the look, and which: `shown_indices`, -1 where it is silent."""
    kept = rng.random(3) < (0.75, 0.75, 0.6)
    if not kept.any():
        kept[int(rng.integers(3))] = True
    words = []
    if kept[1]:
        words.append(garment.colour)
    if kept[2]:
        words.append(garment.pattern)
    words.append(garment.kind if kept[0] else "garment")
    text = f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"
    shown = shown_indices(garment)
    parts = [index >= 0 and rng.random() < _SAID for index in shown[3:]]
    ending = "".join(f", {_part(name, index)}" for name, index, said in zip(PARTS, shown[3:], parts, strict=True) if said)
    opening = rng.choice(["", "", "a photo of "])
    return f"{opening}{text}{ending}", tuple(i if k else -1 for i, k in zip(shown, [*kept, *parts], strict=True))


def _part(name: str, index: int) -> str:
    """`navy hem`, `plain edge`: the words are few, for a caption has no more than 30 tokens and these fall apart into letters."""
    return f"{[*COLOURS, 'plain'][index]} {name}"


def shown_indices(garment: Garment) -> tuple[int, ...]:
    """What a picture shows: indices of kind, colour, pattern, and of the colour of its hem, edge and background (or NO_PART, UNKNOWN_PART)."""
    parts: tuple[int, ...] = (UNKNOWN_PART,) * len(PARTS)
    if garment.finish == "studio":
        parts = (NO_PART,) * len(PARTS)
    elif garment.finish == "styled":
        look = look_of(garment.seed)
        parts = tuple(list(COLOURS).index(name) if name else NO_PART for name in (look.hem, look.edge, look.backdrop))
    return *attribute_indices(garment), *parts


def attribute_indices(garment: Garment) -> tuple[int, int, int]:
    """Indices of kind, colour and pattern in `KINDS`, `COLOURS` and `PATTERNS`."""
    return KINDS.index(garment.kind), list(COLOURS).index(garment.colour), PATTERNS.index(garment.pattern)
