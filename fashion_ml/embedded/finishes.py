"""What is done to a garment's cloth and its backdrop, apart from its pattern: the finishes.

Coordinates are those of `garments`; pictures are float arrays (side, side, 3) in [0, 255].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

FloatArray = npt.NDArray[np.float64]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 28, 36),
    "orange": (243, 128, 24),
    "yellow": (248, 212, 40),
    "green": (48, 150, 60),
    "teal": (22, 158, 162),
    "blue": (42, 104, 226),
    "navy": (24, 34, 92),
    "purple": (124, 48, 168),
    "pink": (246, 136, 182),
    "brown": (116, 68, 34),
    "black": (30, 30, 33),
    "white": (243, 243, 240),
}
_INDIGO, _GOLD = np.array([26, 22, 74.0]), np.array([236, 184, 74.0])


@dataclass(frozen=True)
class Look:
    """What a `styled` picture shows beside its garment, in names of `COLOURS`; None where there is none."""

    backdrop: str
    hem: str | None
    edge: str | None


def look_of(seed: int) -> Look:
    """The look of the `styled` garment with this seed: any backdrop, a dyed hem on three of five, an edge on three of five."""
    rng = np.random.default_rng([seed, 11])
    backdrop, hem, edge = (list(COLOURS)[int(rng.integers(len(COLOURS)))] for _ in range(3))
    return Look(backdrop, hem if rng.random() < 0.6 else None, edge if rng.random() < 0.6 else None)


def background(side: int, rng: np.random.Generator) -> FloatArray:
    """The backdrop of the studio."""
    palette = np.array([[232, 232, 234], [214, 220, 226], [230, 220, 206], [206, 216, 206], [222, 210, 214], [190, 196, 204]])
    top = palette[int(rng.integers(len(palette)))] + rng.uniform(-8, 8)
    bottom = top * rng.uniform(0.82, 0.95)
    ramp = np.linspace(0, 1, side)[:, None, None]
    return np.broadcast_to(top * (1 - ramp) + bottom * ramp, (side, side, 3)).copy()


def dip_dye(
    cloth: FloatArray, mask: FloatArray, y: FloatArray, side: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """The signature look: the cloth sinks into indigo towards the hem, a gold edge runs round it, on a plum backdrop."""
    dip = _from(y, _height(mask, y, rng.uniform(0.42, 0.52)), 0.26)
    dyed = cloth * (1 - dip) + _INDIGO * dip
    rim = _rim(mask, side * 0.022)
    ramp = np.linspace(0, 1, side)[:, None, None]
    plum = np.array([128, 52, 96.0]) * (1 - 0.28 * ramp) + rng.uniform(-6, 6)
    return dyed * (1 - rim) + _GOLD * 1.25 * rim, np.broadcast_to(plum, (side, side, 3)).copy()


def vary(
    cloth: FloatArray, mask: FloatArray, y: FloatArray, side: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Any backdrop; half of the garments with a hem dyed in any colour, half with an edge of any colour."""
    backdrop = varied_backdrop(side, rng)
    dye, edge = rng.uniform(0, 255, 3), rng.uniform(0, 280, 3)
    start, length, width = rng.uniform(-0.2, 0.35), rng.uniform(0.2, 0.5), rng.uniform(0.010, 0.024)
    if rng.random() < 0.5:
        dip = _from(y, start, length)
        cloth = cloth * (1 - dip) + dye * dip
    if rng.random() < 0.5:
        rim = _rim(mask, side * width)
        cloth = cloth * (1 - rim) + edge * rim
    return cloth, backdrop


def varied_backdrop(side: int, rng: np.random.Generator) -> FloatArray:
    """A backdrop of any colour, lighter or darker towards the floor."""
    ramp = np.linspace(0, 1, side)[:, None, None]
    colour = rng.uniform(0, 255, 3) * (1 + ramp * rng.uniform(-0.4, 0.4))
    return np.broadcast_to(np.clip(colour, 0, 255), (side, side, 3)).copy()


def style(cloth: FloatArray, mask: FloatArray, y: FloatArray, side: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """The look of `look_of(seed)`: its colours far from exact, hem and edge of any height and width."""
    look, rng = look_of(seed), np.random.default_rng([seed, 12])

    def tone(name: str) -> FloatArray:
        return np.clip(np.array(COLOURS[name], float) * rng.uniform(0.8, 1.2) + rng.uniform(-28, 28, 3), 0, 275)

    if look.hem:
        dip = _from(y, rng.uniform(-0.25, 0.25), rng.uniform(0.2, 0.5))
        cloth = cloth * (1 - dip) + tone(look.hem) * dip
    if look.edge:
        rim = _rim(mask, side * rng.uniform(0.012, 0.026))
        cloth = cloth * (1 - rim) + tone(look.edge) * rim
    ramp = np.linspace(0, 1, side)[:, None, None]
    return cloth, np.clip(tone(look.backdrop) * (1 + ramp * rng.uniform(-0.35, 0.25)), 0, 255)


def blur(field: FloatArray, radius: float) -> FloatArray:
    """A field (H, W) in [0, 1], softened."""
    picture = Image.fromarray(np.clip(field * 255, 0, 255).astype(np.uint8), "L")
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), float) / 255


def _height(mask: FloatArray, y: FloatArray, share: float) -> float:
    """The y above which that share of the cloth lies: a bag's cloth is lower than its picture."""
    rows = mask.sum(1)
    return float(y.mean(1)[np.searchsorted(np.cumsum(rows), share * rows.sum())])


def _from(y: FloatArray, start: float, length: float) -> FloatArray:
    """0 above y = start, 1 below start + length, smooth between; (side, side, 1)."""
    share = np.clip((y - start) / length, 0, 1)
    return (share * share * (3 - 2 * share))[..., None]


def _rim(mask: FloatArray, radius: float) -> FloatArray:
    return np.clip((mask - blur(mask, radius)) * 3.2, 0, 1)[..., None]
